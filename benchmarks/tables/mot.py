"""MOTChallenge TUD: the next 12 boxes of each pedestrian from the last 8.

    python benchmarks/tables/mot.py --data ../shared/data

Trained on TUD-Campus, tested on TUD-Stadtmitte. Every third track of TUD-Campus is held out: it
chose the recipe (with each of the three shares in turn) and chooses the weights. The numbers are
those of `elman train track`: the mean distance of the centres over the 12 boxes, that of the last
box, both in pixels, and the mean intersection over union. Beside them stand the velocity of the
last two boxes, and the mean velocity of the 8, as constant.
"""

from pathlib import Path

from common import Options, Row, parsed, report, tested, train

from elman.data.core.files import write_text

RECIPE = (
    "--velocity-steps 7 --hidden 32 --batch-size 32 --learning-rate 0.01 --dropout 0.2 --epochs 30"
)


def parts(options: Options) -> tuple[Path, Path]:
    """TUD-Campus without every third track, and with these alone."""
    file = options.data / "mot" / "TUD-Campus" / "gt.txt"
    lines = file.read_text(encoding="utf-8").splitlines()
    found = []
    for name, held in (("train", False), ("valid", True)):
        kept = [line for line in lines if (int(line.split(",")[1]) % 3 == 0) == held]
        found.append(options.work / f"{name}.txt")
        write_text(found[-1], "\n".join(kept) + "\n")
    return found[0], found[1]


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("mot", __doc__)
    begin, held = parts(options)
    test = options.data / "mot" / "TUD-Stadtmitte" / "gt.txt"
    given = [begin, "--valid", held, "--test", test]
    done = [train(options, "track", given, RECIPE, f"seed{seed}", seed) for seed in options.seeds]
    beside = tested(done[0])["baseline"]
    rows = []
    for key, name in (("ade_pixels", "ADE, pixels"), ("fde_pixels", "FDE, pixels"), ("iou", "IoU")):
        trivial = (
            f"{beside[key]:.2f} (constant), {beside['mean_velocity'][key]:.2f} (mean velocity)"
        )
        rows.append(Row(name, [tested(t)[key] for t in done], "", trivial))
    report(options, "TUD-Campus to TUD-Stadtmitte, test", rows, [t.seconds for t in done])


if __name__ == "__main__":
    main()
