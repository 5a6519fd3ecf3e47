"""A small valid file of each kind that elman reads, and how it is read."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from elman.data.audio.pcm import pcm_pieces
from elman.data.audio.samples import Sound, rate_of
from elman.data.audio.sound_files import labelled_sounds, transcribed_sounds
from elman.data.core.examples import Examples, write_examples
from elman.data.core.records import RecordSource, SkipLog
from elman.data.images.arrays import image_size, read_image
from elman.data.images.captions import captioned_pictures
from elman.data.images.idx import read_idx
from elman.data.images.pictures import pictures
from elman.data.music.rolls import pieces
from elman.data.series.labelled import labelled_series
from elman.data.series.panel import Panel
from elman.data.series.panel_files import write_panel
from elman.data.series.panel_rows import PanelRows
from elman.data.series.panel_rules import Cuts, Rules
from elman.data.text.blocks import Text
from elman.data.text.encoder import TextEncoder
from elman.data.text.labelled import labelled_texts
from elman.data.text.labels import Labels
from elman.data.text.pairs import text_pairs
from elman.data.text.tagged import tagged_sentences, untagged_sentences
from elman.data.text.tokenizers import TOKENIZERS, load_tokenizer
from elman.data.tracks.boxes import tracks
from elman.errors import DataError
from elman.tasks.base.inputs import Inputs
from elman.train.checkpoint import Checkpoint, Position, newest_checkpoint, save_checkpoint
from elman.train.metrics import read_metrics
from elman.train.weights import load_tensors, save_tensors
from tests.data import mutators as m
from tests.data.sounds import tones

WORDS = ["one", "two", "three", "red", "green", "blué", "the", "end"]


@dataclass(frozen=True)
class Kind:
    """A kind of file. path: of one that is valid. read: its records, always in the same order.

    own: changes that know the format. spans: where each record stands in the file, where a change
    within one must leave all others. share: how many of the files are of this kind.
    """

    name: str
    path: Path
    read: Callable[[Path], list[Any]]
    own: tuple[m.Change, ...] = ()
    spans: tuple[slice, ...] = ()
    binary: bool = False
    share: float = 1.0


def listed(source: RecordSource[Any]) -> list[Any]:
    """The records of a source, and last what it skipped."""
    return [*source, str(source.skipped)]


def lines_of(data: bytes, skip: int = 0) -> tuple[slice, ...]:
    """Where the lines stand, without their ends."""
    found = [slice(*match.span()) for match in re.finditer(rb"[^\n]+", data)]
    return tuple(found[skip:])


def kinds(folder: Path) -> list[Kind]:
    """All kinds of data, with their files written into a folder."""
    found = [*_tables(folder), *_texts(folder), *_numbers(folder), *_pictures(folder)]
    return [*found, *_sounds(folder), *_music(folder), *_captions(folder), *_parts_of_runs(folder)]


def _written(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def _tables(folder: Path) -> Iterator[Kind]:
    import gzip

    import pyarrow
    from pyarrow import parquet

    rows = [(f"{WORDS[i % 8]} {WORDS[i * 3 % 8]} {i}", f"l{i % 3}") for i in range(12)]
    text = "text,label\n" + "".join(f"{t},{l}\n" for t, l in rows)
    path = _written(folder, "csv/a.csv", text)

    def of_labels(file):
        return listed(labelled_texts([file]))

    yield Kind("csv", path, of_labels, m.TEXT, lines_of(text.encode(), 1), share=3)
    quoted = "id;text;label\n" + "".join(
        f'{i};"{t}\n""x""; y";{l}\n' for i, (t, l) in enumerate(rows)
    )
    path = _written(folder, "quoted/a.csv", quoted)
    yield Kind("csv quoted", path, lambda f: listed(labelled_texts([f], delimiter=";")), m.TEXT)
    path = _written(folder, "gz/a.csv.gz", gzip.compress(text.encode(), mtime=0))
    yield Kind("csv.gz", path, of_labels, (m.unpacked(m.TEXT),))
    for encoding in ("utf-16", "latin-1"):
        path = _written(folder, f"{encoding}/a.csv", text.encode(encoding))
        how = {"encoding": encoding}
        yield Kind(
            f"csv {encoding}", path, lambda f, how=how: listed(labelled_texts([f], **how)), m.TEXT
        )
    text = "".join(f"{t}\t{t[::-1]}\n" for t, _ in rows)
    path = _written(folder, "tsv/a.tsv", text)
    yield Kind("tsv", path, lambda f: listed(text_pairs([f])), m.TEXT, lines_of(text.encode(), 1))
    lines = [
        json.dumps({"text": t, "label": i % 3, "x": [i, None]}) for i, (t, _) in enumerate(rows)
    ]
    path = _written(folder, "jsonl/a.jsonl", "\n".join(lines))
    yield Kind("jsonl", path, of_labels, (*m.TEXT, _json_line))
    table = pyarrow.table({"text": [t for t, _ in rows], "label": [l for _, l in rows]})
    out = io.BytesIO()
    parquet.write_table(table, out)
    path = _written(folder, "parquet/a.parquet", out.getvalue())
    yield Kind("parquet", path, of_labels, share=2)


def _json_line(draw: Any, data: bytes) -> bytes:
    lines = data.split(b"\n")
    i = draw.randrange(len(lines))
    lines[i] = m.json_values(draw, lines[i]).replace(b"\n", b"")
    return b"\n".join(lines)


def _texts(folder: Path) -> Iterator[Kind]:
    lines = [" ".join(WORDS[i * j % 8] for j in range(1, 3 + i % 4)) for i in range(15)]
    text = "\n".join(lines) + "\n"
    path = _written(folder, "text/a.txt", text)
    yield Kind("text", path, _characters, m.TEXT)
    _written(folder, "lines/neg.txt", text)
    path = _written(folder, "lines/pos.txt", text)
    beside = path.with_name("neg.txt")
    spans = lines_of(text.encode())
    yield Kind("lines", path, lambda f: listed(labelled_texts([f, beside])), m.TEXT, spans)
    conll = "".join(
        f"{w} {i}\t{w.upper()}\n" + "\n" * (i % 4 == 3) for i, w in enumerate(WORDS * 4)
    )
    path = _written(folder, "conll/a.conll", conll)
    yield Kind("conll", path, lambda f: listed(tagged_sentences([f])), m.TEXT, share=2)
    yield Kind("conll words", path, lambda f: list(untagged_sentences(f)), m.TEXT)
    tags = "\n".join(" ".join("O" for _ in line.split()) for line in lines) + "\n"
    for name, content in (("seq.in", text), ("label", "\n".join("xyz"[i % 3] for i in range(15)))):
        _written(folder, f"parallel/{name}", content)
    path = _written(folder, "parallel/seq.out", tags)
    yield Kind("parallel", path, lambda f: listed(tagged_sentences([f.parent])), m.TEXT)


def _characters(path: Path) -> list[Any]:
    text = Text([path])
    found = ["".join(text.blocks()), text.count()]
    for unit, kind in TOKENIZERS.items():
        tokenizer = kind.fit(text.blocks(), 300 if unit == "bpe" else None)
        ids = tokenizer.encode(found[0])
        assert unit == "word" or tokenizer.decode(ids.tolist()) == found[0], unit
        found.append(ids)
    return found


def _numbers(folder: Path) -> Iterator[Kind]:
    draw = np.random.default_rng(0)
    rows = ["1,2,3:4,5,?:a", "1.5,-2e3:4,?:b", "0,0:1,1:a"] * 3
    head = "# c\n@problemName x\n@timeStamps false\n@univariate false\n@dimensions 2\n"
    text = head + "@classLabel true a b\n@data\n" + "\n".join(rows) + "\n"
    path = _written(folder, "ts/a.ts", text)

    def read(f):
        return listed(labelled_series([f], missing="carry"))

    yield Kind("ts", path, read, m.TEXT, lines_of(text.encode(), 7), share=2)
    out = io.BytesIO()
    x = draw.normal(size=(5, 6, 2)).astype(np.float32)
    np.savez(out, x=x, y=np.array(list("abaab")), lengths=np.array([6, 3, 1, 2, 6]))
    path = _written(folder, "npz/a.npz", out.getvalue())
    yield Kind("npz", path, read, (m.zip_member,), share=3)
    numbers = "a,b,c,label\n" + "".join(
        f"{a:.2f},{b:.3e},{c:.0f},x\n" for a, b, c in draw.normal(size=(9, 3))
    )
    path = _written(folder, "numbers/a.csv", numbers)
    yield Kind("csv of numbers", path, read, m.TEXT, lines_of(numbers.encode(), 1))
    lines = [json.dumps({"x": [[i, 2.5], [3, None]], "label": "a"}) for i in range(8)]
    path = _written(folder, "lists/a.jsonl", "\n".join(lines))
    yield Kind("jsonl of lists", path, read, (*m.TEXT, _json_line))
    days = [
        f"2024-0{1 + i // 28}-{1 + i % 28:02},{5 + i % 7}.5,{i},{'ab'[i % 2]}\n" for i in range(60)
    ]
    path = _written(folder, "panel/a.csv", "date,sales,price,shop\n" + "".join(days))
    yield Kind("series with dates", path, _panel_rows, m.TEXT, share=2)
    hours = [f"{1700000000 + 3600 * i};{i * 7 % 24},5;{i % 5}\n" for i in range(60)]
    path = _written(folder, "wide/a.csv", "t;load;wind\n" + "".join(hours))
    yield Kind("series with stamps", path, lambda f: _panel_rows(f, ";"), m.TEXT)
    boxes = "".join(
        f"{f},{t},{10 * f}.5,20,{30 + t},40,1,-1,-1,-1\n" for t in (1, 2) for f in (1, 2, 3, 6)
    )
    path = _written(folder, "mot/gt.txt", boxes)
    yield Kind("boxes", path, lambda f: listed(tracks([f])), m.TEXT, share=2)
    table = "frame,id,x,y,w,h\n" + "".join(
        f"{f},c{t},{f},2,3,4\n" for t in (1, 2) for f in range(5)
    )
    path = _written(folder, "boxes/a.csv", table)
    yield Kind("boxes in a table", path, lambda f: listed(tracks([f], gaps="cut")), m.TEXT)


def _panel_rows(path: Path, delimiter: str | None = None) -> list[Any]:
    skipped = SkipLog()
    with TemporaryDirectory() as made:
        rows = PanelRows([path], delimiter=delimiter)
        rules = Rules(duplicates="mean")
        panel = write_panel(Path(made) / "p", rows, rules, skipped, lambda *_: None, cuts=Cuts())
        return [panel.about_json(), np.array(panel.values), str(skipped)]


def _pictures(folder: Path) -> Iterator[Kind]:
    from PIL import Image

    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    more: dict[str, dict[str, Any]] = {"gif": {"save_all": True}, "png": {"dpi": (72, 72)}}
    for suffix in ("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm"):
        out = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        how = more.get(suffix, {"exif": exif} if suffix in ("jpg", "tiff", "webp") else {})
        Image.fromarray(pixels).save(out, "JPEG" if suffix == "jpg" else suffix.upper(), **how)
        path = _written(folder, f"pictures/a.{suffix}", out.getvalue())
        yield Kind(suffix, path, _picture)
    images = bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6]) + draw.bytes(120)
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 3, 1])
    _written(folder, "idx/a-images-idx3-ubyte", images)
    _written(folder, "idx/a-labels-idx1-ubyte", labels)
    path = folder / "idx/a-images-idx3-ubyte"

    def read(f):
        return listed(pictures([f.with_name("a-images-idx3-ubyte")], labelled=True))

    spans = tuple(slice(16 + 30 * i, 46 + 30 * i) for i in range(4))
    yield Kind("idx", path, read, (), spans, True, share=2)
    yield Kind("idx of labels", path.with_name("a-labels-idx1-ubyte"), read)
    floats = (
        bytes([0, 0, 0x0D, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + draw.normal(size=4).astype(">f4").tobytes()
    )
    path = _written(folder, "idx/b-idx2-float", floats)
    yield Kind("idx of numbers", path, lambda f: [read_idx(f)])


def _picture(path: Path) -> list[Any]:
    whole = read_image(path)
    size = image_size(path)
    assert size is None or size == whole.shape[:2], (size, whole.shape)
    return [whole, read_image(path, (8, 8), mode="grey", fit="pad")]


def _sounds(folder: Path) -> Iterator[Kind]:
    import soundfile

    x = tones("abc", seconds=0.02, gap=0.01)
    for suffix in ("wav", "flac", "ogg", "aiff", "au", "mp3"):
        path = folder / f"sounds/a.{suffix}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, x, 8000)
        yield Kind(suffix, path, _sound)
    path = _written(folder, "pcm/a.wav", (folder / "sounds/a.wav").read_bytes())
    yield Kind("wav as a stream", path, _stream)
    names = "".join(f"a.{'wav' if i % 2 else 'flac'},words {i},{'xy'[i % 2]}\n" for i in range(6))
    path = _written(folder, "sounds/list.csv", "file,text,label\n" + names)

    def read(f):
        return listed(transcribed_sounds([f])) + listed(labelled_sounds([f]))

    yield Kind("list of sounds", path, read, m.TEXT)
    path = _written(folder, "sounds/metadata.csv", "a|one\na|one|two\n")
    yield Kind("ljspeech", path, lambda f: listed(transcribed_sounds([f])), m.TEXT)
    path = _written(folder, "sounds/a.trans.txt", "a ONE TWO\na THREE\n")
    yield Kind("librispeech", path, lambda f: listed(transcribed_sounds([f])), m.TEXT)


def _sound(path: Path) -> list[Any]:
    skipped = SkipLog()
    if path.suffix == ".mp3":
        # What the decoder makes of damaged frames differs from call to call: sound, or what is no
        # number and is refused.
        with suppress(DataError):
            Sound(path, "", str(path)).samples(16000, skipped)
        return [rate_of(path)]
    x = Sound(path, "", str(path)).samples(16000, skipped)
    return [x, rate_of(path), str(skipped)]


def _stream(path: Path) -> list[Any]:
    return [np.concatenate([np.zeros(0), *pcm_pieces(io.BytesIO(path.read_bytes()), 8000)])]


def _music(folder: Path) -> Iterator[Kind]:
    from elman.data.music.midi import write_midi

    roll = (np.random.default_rng(0).random((12, 88)) < 0.05).astype(np.uint8)
    path = folder / "music/a.mid"
    path.parent.mkdir(exist_ok=True)
    write_midi(path, roll, 4, 90)

    def read(f):
        return listed(pieces([f]))

    yield Kind("midi", path, read, share=3)
    out = io.BytesIO()
    np.savez(out, train_1=roll, train_2=roll[:5], test_1=roll)
    path = _written(folder, "music/a.npz", out.getvalue())
    yield Kind("npz of music", path, lambda f: listed(pieces([f], "train")), (m.zip_member,))
    try:
        from scipy.io import savemat
    except ImportError:
        return
    cells = np.empty(2, dtype=object)
    cells[:] = [roll.astype(float), roll[:4].astype(float)]
    for packed in (False, True):
        path = folder / f"music/{'packed' if packed else 'plain'}.mat"
        savemat(path, {"traindata": cells, "testdata": np.eye(4, 88)}, do_compression=packed)
        yield Kind(
            f"mat{' packed' * packed}", path, lambda f: listed(pieces([f], "train")), share=2
        )


def _captions(folder: Path) -> Iterator[Kind]:
    from PIL import Image

    top = folder / "captions"
    top.mkdir(exist_ok=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 4)).save(top / f"{name}.png")

    def read(f):
        return listed(captioned_pictures([f], skip_bad=True))

    images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")]
    notes = [{"image_id": i % 3, "id": i, "caption": f"a dog {i}"} for i in range(6)]
    coco = json.dumps({"info": {}, "images": images, "annotations": notes}, indent=1)
    path = _written(top, "captions_coco.json", coco)
    yield Kind("coco", path, read, m.JSON, share=2)
    flickr = "".join(f"{'abc'[i % 3]}.png#{i}\ta dog {i}\n" for i in range(6))
    path = _written(top, "flickr.txt", flickr)
    yield Kind("flickr", path, read, m.TEXT)
    path = _written(top, "kaggle.txt", 'image,caption\na.png,a dog\nb.png,"a, b"\nc.png,x\n')
    yield Kind("flickr csv", path, read, m.TEXT)
    path = _written(top, "list.csv", "image,caption\na.png,a dog\nb.png,a cat\nc.png,a pig\n")
    yield Kind("list of captions", path, read, m.TEXT)
    lines = "".join(
        json.dumps({"file_name": f"{n}.png", "captions": ["x", "y"]}) + "\n" for n in "abc"
    )
    path = _written(top, "list.jsonl", lines)
    yield Kind("jsonl of captions", path, read, (*m.TEXT, _json_line))


def _parts_of_runs(folder: Path) -> Iterator[Kind]:
    """What a run folder is made of, each file by itself."""
    top, texts = folder / "run", [" ".join(WORDS[i : i + 4]) for i in range(5)]
    top.mkdir(exist_ok=True)
    for unit, kind in TOKENIZERS.items():
        path = top / f"{unit}.json"
        kind.fit(texts, 270 if unit == "bpe" else None).save(path)
        yield Kind(f"tokenizer {unit}", path, _tokenizer, m.JSON, share=0.5)
    TextEncoder.fit("token", texts, specials=("start", "end")).save(path := top / "units.json")
    yield Kind("sentences", path, _sentences, m.JSON)
    series = [np.random.default_rng(i).normal(size=(4, 2)) for i in range(3)]
    from elman.data.core.scalers import StandardScaler

    Inputs(scale=StandardScaler.fit(series)).save(path := top / "inputs.json")
    yield Kind("inputs", path, lambda f: [Inputs.load(f).encode(np.ones((2, 2)))], m.JSON)
    Labels.fit(["a", "b", "a"]).save(path := top / "labels.json")
    yield Kind("labels", path, lambda f: [Labels.load(f)], m.JSON, share=0.5)
    tensors = {"a": torch.randn(3, 4), "b.c": torch.arange(5), "half": torch.ones(2).bfloat16()}
    save_tensors(path := top / "model.safetensors", tensors)
    yield Kind("safetensors", path, _tensors, (m.safetensors_header,), share=4)
    for step in (1, 2):
        given = Position(step, 1.0, [2.0, 1.0]), tensors, tensors, {".0": torch.ones(2)}
        last = save_checkpoint(top / "checkpoints", Checkpoint(*given), 2)
    yield Kind("position", last / "position.json", _checkpoint, m.JSON)
    yield Kind("carried", last / "carried.safetensors", _checkpoint, (m.safetensors_header,))
    metrics = "step,epoch,seconds,train_loss_nats\n10,0,1.5,2.25\n20,1,2.5,\n"
    path = _written(top, "metrics.csv", metrics)
    yield Kind("metrics", path, read_metrics, m.TEXT, share=0.5)
    rows = [{"x": np.arange(i + 1, dtype=np.float32), "y": i, "t": f"text {i}"} for i in range(6)]
    write_examples(path := top / "train.arrow", rows)
    yield Kind("examples", path, lambda f: list(Examples.open(f)), share=3)
    table = _written(
        top, "p.csv", "date,y\n" + "".join(f"2024-01-{i:02},{i % 7}\n" for i in range(1, 29))
    )
    panel = top / "panel"
    how = Rules(), SkipLog(), lambda *_: None
    write_panel(panel, PanelRows([table]), *how, cuts=Cuts())
    yield Kind("panel", panel / "panel.json", _panel, m.JSON, share=2)
    yield Kind("panel's values", panel / "values.npy", _panel, (m.npy_header,))


def _tokenizer(path: Path) -> list[Any]:
    tokenizer = load_tokenizer(path)
    ids = tokenizer.encode("one two red é")
    return [tokenizer.vocab_size, ids, tokenizer.decode(ids.tolist())]


def _sentences(path: Path) -> list[Any]:
    units = TextEncoder.load(path)
    ids = units.encode("one two red é", start=True)
    return [units.vocab_size, units.special_ids, ids, units.decode(ids.tolist())]


def _tensors(path: Path) -> list[Any]:
    found = load_tensors(path)
    return [(name, str(t.dtype), list(t.shape), t.tolist()) for name, t in sorted(found.items())]


def _checkpoint(path: Path) -> list[Any]:
    found = newest_checkpoint(path.parent.parent)
    assert found is not None
    return [found.position, sorted(found.carried)]


def _panel(path: Path) -> list[Any]:
    panel = Panel.open(path.parent)
    block = panel.blocks[0]
    return [panel.about_json(), np.array(panel.values), panel.times(block, range(block.rows))]
