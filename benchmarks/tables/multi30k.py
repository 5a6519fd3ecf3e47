"""German to English captions of Multi30k, without and with attention: BLEU on test 2016.

    python benchmarks/tables/multi30k.py --data ../shared/data

Lower-cased, normalised, tokenised files (task 1); words that stand once in training are unknown.
The validation loss chooses the weights; with attention the last are kept. BLEU is sacrebleu's on
the words as they stand in the files, as the published ones are (bentrevett/pytorch-seq2seq,
greedy); also with five beams, whose length penalty the validation part chose with attention.
"""

from pathlib import Path

from common import Options, Row, Training, parsed, report, tested, train
from sacrebleu.metrics.bleu import BLEU

import elman
from elman.data.core.files import write_text
from elman.models import Decoding

SHARED = (
    "--tokenizer token --min-count 2 --cell gru --hidden 256 --tie "
    "--label-smoothing 0.1 --learning-rate 0.003 --warmup 100 --beams 1"
)
#: Name, recipe, length penalty of five beams, published.
MODELS = (
    (
        "plain",
        f"--attention none --feed-context --dropout 0.3 --epochs 4 {SHARED}",
        1.0,
        "13.76 (LSTM without attention, bentrevett)",
    ),
    (
        "attention",
        f"--dropout 0.4 --ema-decay 0.999 --keep-weights last --epochs 12 {SHARED}",
        1.3,
        "28.30 (with attention, bentrevett)",
    ),
)


def stems(folder: Path, part: str) -> list[Path]:
    """The German and the English file of a part."""
    return [folder / f"{part}.lc.norm.tok.{language}" for language in ("de", "en")]


def first(options: Options, files: list[Path], count: int) -> list[Path]:
    """Files with the first lines of these, in the work folder."""
    kept = [options.work / file.name for file in files]
    for file, short in zip(files, kept, strict=True):
        write_text(short, "".join(file.read_text("utf-8").splitlines(True)[:count]))
    return kept


def bleu(training: Training, decoding: Decoding, source: Path, target: Path) -> tuple[float, str]:
    """BLEU of the weights that are kept on two files, and sacrebleu's signature."""
    trained = elman.load(training.folder)
    found = [a.text for a in trained.predict(trained.inputs(source), decoding=decoding)]
    wanted = target.read_text("utf-8").splitlines()
    metric = BLEU(tokenize="none", force=True)
    score = metric.corpus_score(found, [wanted])
    return float(score.score), str(metric.get_signature())


def main() -> None:
    """Train both models once for each seed, print the table."""
    options = parsed("multi30k", __doc__, only=[name for name, *_ in MODELS])
    folder = options.data / "multi30k"
    test = stems(folder, "test_2016_flickr")
    if options.quick:
        # What is hardly trained writes on and on.
        test = first(options, test, 20)
    files = list(map(str, stems(folder, "train")))
    for name, part in (("--valid", stems(folder, "val")), ("--test", test)):
        files += [word for file in part for word in (name, str(file))]
    rows, seconds, signature = [], [], ""
    for name, recipe, length_penalty, published in options.chosen(MODELS):
        decoding = Decoding(beams=5, length_penalty=length_penalty, max_length=100)
        greedy, beams = [], []
        for seed in options.seeds:
            done = train(options, "translate", files, recipe, f"{name}-seed{seed}", seed)
            beside = tested(done)["baseline"]
            five, signature = bleu(done, decoding, *test)
            greedy.append(tested(done)["bleu"])
            beams.append(five)
            seconds.append(done.seconds)
        trivial = f"{beside['bleu']:.2f} ({beside['name']})"
        rows.append(Row(f"{name}, greedy", greedy, published, trivial))
        rows.append(Row(f"{name}, five beams", beams, "", trivial))
    report(options, "Multi30k de-en, BLEU, test 2016", rows, seconds, f"sacrebleu {signature}")


if __name__ == "__main__":
    main()
