"""JSB chorales: which of 88 keys sound in the next frame, given all frames up to now.

    python benchmarks/tables/jsb.py --data ../shared/data

The loss of a frame is the binary negative log likelihood, in nats, summed over the 88 keys; the
number is its mean over frames 2 ... T of all pieces, as Bai et al. 2018 count: the first frame of a
piece is read and not predicted. The validation pieces choose the weights, the test pieces are read
once. The baseline takes keys as independent of each other and of time. Needs scipy to read the .mat
file.
"""

from common import Row, parsed, report, tested, train

RECIPE = (
    "--hidden 200 --dropout 0.3 --learning-rate 0.004 --batch-size 8 --epochs 120 --patience 30"
)
#: What differs from it, by the validation pieces: without gates a lower rate, for the GRU a higher
#: one, a running mean of the weights and their decay.
OWN = {
    "gru": " --dropout 0.2 --learning-rate 0.016 --ema-decay 0.99 --weight-decay 0.3",
    "elman": " --dropout 0.2 --learning-rate 0.002",
}
#: Cell, published by Bai et al. 2018, Table 1.
CELLS = (("lstm", "8.45"), ("gru", "8.43"), ("elman", "8.91"))


def main() -> None:
    """Train each cell once for each seed, print the table."""
    options = parsed("jsb", __doc__, only=[cell for cell, _ in CELLS])
    file = options.data / "jsb" / "JSB_Chorales.mat"
    rows, seconds = [], []
    for cell, published in options.chosen(CELLS):
        recipe = f"--cell {cell} {RECIPE}{OWN.get(cell, '')}"
        done = [
            train(options, "music", [file], recipe, f"{cell}-seed{seed}", seed)
            for seed in options.seeds
        ]
        beside = tested(done[0])["baseline"]
        values = [tested(t)["loss_nats"] for t in done]
        trivial = f"{beside['loss_nats']:.2f} (independent keys)"
        rows.append(Row(f"{cell}, nats a frame", values, f"{published} (Bai et al. 2018)", trivial))
        seconds += [t.seconds for t in done]
    report(options, "JSB chorales, test", rows, seconds)


if __name__ == "__main__":
    main()
