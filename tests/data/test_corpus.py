import numpy as np
import pytest
import torch

from elman.data.text.corpus import Streams, encode_part, require_enough
from elman.data.text.tokenizers import tokenizer_class
from elman.errors import DataError


def silent(what, done, total):
    pass


@pytest.mark.parametrize(("symbols", "dtype"), [(10, "uint8"), (300, "uint16")])
def test_ids_are_written_in_few_bytes_and_mapped(symbols, dtype, tmp_path):
    text = "".join(chr(0x4E00 + i) for i in range(symbols)) + " ab \n"
    tokenizer = tokenizer_class("char").fit([text], None)
    part = encode_part([text, text], tokenizer, tmp_path, "data/x.bin", silent, 2 * len(text))
    ids = part.ids(tmp_path)
    assert isinstance(ids, np.memmap)
    assert ids.dtype == dtype
    assert tokenizer.decode(ids.tolist()) == text * 2
    assert (part.tokens, part.characters, part.words) == (2 * len(text), 2 * len(text), 4)


def test_units_that_were_never_seen_are_counted(tmp_path):
    tokenizer = tokenizer_class("char").fit(["ab"], None)
    part = encode_part(["abxyab"], tokenizer, tmp_path, "x.bin", silent, 6)
    assert part.unknown == 2


def test_a_damaged_file_of_ids_is_refused(tmp_path):
    tokenizer = tokenizer_class("char").fit(["ab"], None)
    part = encode_part(["abab"], tokenizer, tmp_path, "x.bin", silent, 4)
    (tmp_path / "x.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match="missing or damaged"):
        part.ids(tmp_path)


@pytest.mark.parametrize(("n", "batch", "bptt"), [(101, 4, 7), (50, 1, 49), (23, 5, 2), (9, 8, 3)])
def test_streams_are_contiguous_and_cover_the_text_once(n, batch, bptt):
    streams = Streams(np.arange(n), batch, bptt)
    chunks = [streams.batch(i) for i in range(len(streams))]
    inputs = torch.cat([c.tensors["tokens"] for c in chunks])
    targets = torch.cat([c.tensors["targets"] for c in chunks])
    length = (n - 1) // batch
    assert inputs.T.flatten().tolist() == list(range(length * batch))
    assert torch.equal(targets, inputs + 1)
    assert [c.first for c in chunks] == [True] + [False] * (len(streams) - 1)
    assert all(len(c.tensors["tokens"]) == bptt for c in chunks[:-1])


def test_processes_share_the_rows_of_a_batch():
    streams = Streams(np.arange(101), 4, 5)
    whole = streams.batch(2).tensors["tokens"]
    shares = [streams.batch(2, slice(rank, None, 2)).tensors["tokens"] for rank in range(2)]
    assert torch.equal(whole[:, 0::2], shares[0])
    assert torch.equal(whole[:, 1::2], shares[1])


@pytest.mark.parametrize(
    ("tokens", "hint"), [(40, "--bptt 9 fits"), (3, "--batch-size 1 --bptt 2")]
)
def test_a_text_shorter_than_one_chunk_says_what_works(tokens, hint):
    with pytest.raises(DataError, match=hint) as error:
        require_enough(tokens, 4, 10, "the text")
    assert "at least 41" in str(error.value)
    numbers = [int(word) for word in hint.split() if word.isdigit()]
    batch, bptt = numbers if len(numbers) == 2 else (4, numbers[0])
    require_enough(tokens, batch, bptt, "the text")
