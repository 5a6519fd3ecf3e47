"""Binary MNIST, pixel by pixel: nats a picture, six minutes of training on one core.

    python benchmarks/tables/mnist_pixels.py --data ../shared/data

Two ways to make grey values zeros and ones: 1 from the middle grey on, and drawn once with the
grey value as probability, as the published numbers have it (their draws are others). A tenth of
the training pictures chooses the weights; the 10,000 test pictures are read once.
"""

from common import Options, Row, Training, parsed, report, tested, train

RECIPE = (
    "--levels 2 --hidden 128 --embedding 64 --context 3 --batch-size 32 --learning-rate 0.004 "
    "--minutes 6 --validate-every 500"
)
WAYS = {"from the middle grey on": "", "drawn": " --draw-levels"}
PUBLISHED = {"drawn": "88.3 (NADE, Larochelle & Murray 2011)"}


def trained(options: Options, number: int, more: str, seed: int) -> Training:
    """One training."""
    folder = options.data / "mnist"
    files = [folder / "train-images-idx3-ubyte.gz", "--test", folder / "t10k-images-idx3-ubyte.gz"]
    return train(options, "pixels", files, RECIPE + more, f"way{number}-seed{seed}", seed)


def main() -> None:
    """Train once for each way and seed, print the table."""
    options = parsed("mnist_pixels", __doc__, seeds=[0])
    rows, seconds = [], []
    for number, (way, more) in enumerate(WAYS.items()):
        done = [trained(options, number, more, seed) for seed in options.seeds]
        alone = tested(done[0])["baseline"]
        ours = [tested(t)["loss_nats"] for t in done]
        beside = f"{alone['loss_nats']:.1f} ({alone['name']})"
        rows.append(Row(f"nats a picture, {way}", ours, PUBLISHED.get(way, ""), beside))
        seconds += [t.seconds for t in done]
    report(options, "binary MNIST by pixels, test", rows, seconds)


if __name__ == "__main__":
    main()
