"""MNIST, read pixel by pixel: 784 steps of one number, in order and permuted.

    python benchmarks/tables/mnist_steps.py --data ../shared/data

75 minutes of training for the pixels in order, 27 for the permuted ones; `--quick` shows that it
runs, `--accelerator gpu` is about five times as fast. A tenth of the training pictures chooses the
weights; the 10,000 test pictures are read once. The published numbers are the last state's, of
networks with about 70,000 weights.
"""

from common import Row, parsed, percent, report, tested, train

RECIPE = (
    "--step-size 1 --hidden 128 --no-bidirectional --cell-option init=chrono "
    "--cell-option t_max=784 --batch-size 64 "
)
#: In order the largest value that a unit has had says most; permuted, the last state learns faster.
ORDERS = {
    "in order": "--pooling max --learning-rate 0.003 --minutes 75",
    "permuted": "--permute 0 --cell gru --pooling last --learning-rate 0.004 --minutes 27",
}
PUBLISHED = {
    "in order": "GRU 96.2, LSTM 87.2 (Bai et al. 2018)",
    "permuted": "GRU 87.3, LSTM 85.7 (Bai et al. 2018)",
}


def main() -> None:
    """Train once for each order and seed, print the table."""
    options = parsed("mnist_steps", __doc__, seeds=[0])
    folder = options.data / "mnist"
    files = [folder / "train-images-idx3-ubyte.gz", "--test", folder / "t10k-images-idx3-ubyte.gz"]
    rows, seconds = [], []
    for number, (name, more) in enumerate(ORDERS.items()):
        done = [
            train(options, "classify", files, RECIPE + more, f"order{number}-seed{seed}", seed)
            for seed in options.seeds
        ]
        beside = tested(done[0])["baseline"]
        rows.append(
            Row(
                f"accuracy, {name}",
                [tested(t)["accuracy"] for t in done],
                PUBLISHED[name],
                f"{percent(beside['accuracy'])} ({beside['name']})",
                percent=True,
            )
        )
        seconds += [t.seconds for t in done]
    report(options, "MNIST by pixels, 784 steps, test", rows, seconds)


if __name__ == "__main__":
    main()
