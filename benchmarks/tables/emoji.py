"""Names of emoji from their pictures: BLEU and exact match.

    python benchmarks/tables/emoji.py --data ../shared/data

32 x 32 pictures of Noto Color Emoji with their Unicode names (emoji/captions.tsv, emoji/png).
Names that differ in skin tones alone go to one part, so that no part shows what another asks for:
8 in 10 of such groups to training, the others half to validation, half to the test, by a hash of
the name. BLEU is sacrebleu's on lower-cased names, split at spaces.
"""

import csv
import re
import zlib
from pathlib import Path

from common import Options, Row, parsed, report, tested, train

from elman.data.core.files import write_text

RECIPE = (
    "--features 128 --hidden 256 --dropout 0.4 --drop-features 0.1 --label-smoothing 0.1 "
    "--shift 0.06 --zoom 0.06 --weight-decay 0.05 --warmup 100 --learning-rate 0.003 "
    "--epochs 40 --keep-weights last"
)
TONE = re.compile(r"(medium-light|medium-dark|medium|light|dark) skin tone")


def group(name: str) -> str:
    """A name without the words that say skin tones."""
    kept = (part.strip() for part in re.split(r"[:,]", TONE.sub("", name)))
    return ", ".join(part for part in kept if part)


def part_of(name: str) -> str:
    """train, valid or test."""
    return {0: "valid", 1: "test"}.get(zlib.crc32(group(name).encode()) % 10, "train")


def prepared(options: Options) -> dict[str, Path]:
    """The files of the parts."""
    folder = options.data / "emoji"
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    with (folder / "captions.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            parts[part_of(row["caption"])].append(f"{row['file']}\t{row['caption']}\n")
    files = {part: options.work / f"{part}.tsv" for part in parts}
    for part, lines in parts.items():
        write_text(files[part], "file\tcaption\n" + "".join(lines))
    return files


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("emoji", __doc__)
    files = prepared(options)
    given = [files["train"], "--valid", files["valid"], "--test", files["test"]]
    given += ["--images", (options.data / "emoji" / "png").resolve()]
    trainings = [train(options, "caption", given, RECIPE, f"seed{s}", s) for s in options.seeds]
    scores = [tested(training) for training in trainings]
    rows = []
    for name, percent, digits in (
        ("exact_match", True, 1),
        ("bleu", False, 2),
        ("bleu_1", False, 2),
    ):
        beside = "; ".join(
            f"{(100 if percent else 1) * b[name]:.{digits}f} ({b['name']})"
            for b in scores[0]["baseline"]
        )
        values = [score[name] for score in scores]
        rows.append(Row(name.replace("_", " "), values, "", beside, percent, digits))
    report(
        options,
        f"Names of emoji, test, {scores[0]['examples']} pictures",
        rows,
        [training.seconds for training in trainings],
        "BLEU: sacrebleu, tok:none, smooth:exp",
    )


if __name__ == "__main__":
    main()
