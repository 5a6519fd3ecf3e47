"""ETTh1: an electricity transformer by the hour, all seven columns, and its oil temperature alone.

    python benchmarks/tables/etth1.py --data ../shared/data

The usual split by months, 12 to train, 4 to validate, 4 to test (8,640, 2,880 and 2,880 rows),
standardised on the training rows; the mean squared error over 24 hours ahead, for windows at every
hour of the test part. Source of the data: Zhou et al. 2021.
"""

from pathlib import Path

from common import Options, Row, Training, parsed, report, tested, train

from elman.data.core.files import write_text

#: Hours of twelve, and of four months of thirty days.
TRAIN, PART = 8640, 2880
SPLIT = f"--valid-fraction {PART / (TRAIN + 2 * PART)} --test-fraction {PART / (TRAIN + 2 * PART)}"
ALL = (
    "--horizon 24 --output mean --hidden 64 --batch-size 256 --learning-rate 0.002 --epochs 2 "
    f"{SPLIT}"
)
ALONE = f"--target OT --horizon 24 --output mean --epochs 5 {SPLIT}"


def cut(options: Options) -> Path:
    """The file as far as the test part reaches."""
    lines = (options.data / "etth1" / "ETTh1.csv").read_text(encoding="utf-8").splitlines()
    path = options.work / "ETTh1.csv"
    write_text(path, "\n".join(lines[: 1 + TRAIN + 2 * PART]) + "\n")
    return path


def row(name: str, done: list[Training], published: str) -> Row:
    """The mean squared errors of the test parts, beside those without a model."""
    scores = tested(done[0])
    beside = (
        f"{scores['mse_last_value']:.3f} (last value), "
        f"{scores['baseline']['mse']:.3f} (a day before)"
    )
    return Row(name, [tested(t)["mse"] for t in done], published, beside, digits=3)


def main() -> None:
    """Train both once for each seed, print the table."""
    options = parsed("etth1", __doc__)
    file = cut(options)
    joint, alone = (
        [train(options, "forecast", [file], recipe, f"{name}-seed{s}", s) for s in options.seeds]
        for name, recipe in (("all", ALL), ("OT", ALONE))
    )
    rows = [
        row("seven columns, MSE", joint, "0.650 (LSTMa, Zhou et al. 2021)"),
        row("OT alone, MSE", alone, "0.107 (DeepAR), 0.114 (LSTMa), Zhou et al. 2021"),
    ]
    report(options, "ETTh1, 24 hours ahead, test", rows, [t.seconds for t in joint + alone])


if __name__ == "__main__":
    main()
