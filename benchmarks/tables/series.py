"""Short series: sunspots of each year, carbon dioxide of each week, prices of five shares.

    python benchmarks/tables/series.py --data ../shared/data

Sunspots, 1700 to 2008: the next year, from every year of the last fifth. CO2 at Mauna Loa: the next
52 weeks. Prices of each month: the next month. Each beside the value one season before (eleven
years, a year) and the last value; MASE is the mean absolute error over that of the value one season
before on the training part (Hyndman & Koehler 2006).
"""

from pathlib import Path

from common import Options, Row, parsed, report, tested, train

from elman.data.core.files import write_text

PARTS = "--valid-fraction 0.2 --test-fraction 0.2"
#: Name, file, recipe.
RECIPES = (
    ("sunspots, a year ahead", "sunspots", f"--horizon 1 --season 11 --output median {PARTS}"),
    ("CO2, 52 weeks ahead", "co2", f"--horizon 52 --output median {PARTS}"),
    ("five shares, a month ahead", "stocks", f"--horizon 1 --output median {PARTS}"),
)


def file_of(options: Options, name: str) -> Path:
    """The file of a row; the sunspots as CSV."""
    if name == "stocks":
        return options.data / "stocks" / "stocks.csv"
    if name == "co2":
        return options.data / "series" / "co2.csv"
    lines = (options.data / "series" / "sunspots_yearly.dat").read_text().splitlines()
    path = options.work / "sunspots.csv"
    rows = [",".join(line.split()) for line in lines if line.strip()]
    write_text(path, "\n".join(["year,sunspots", *rows]) + "\n")
    return path


def main() -> None:
    """Train once for each series and seed, print the table."""
    options = parsed("series", __doc__)
    rows, seconds = [], []
    for name, file, recipe in RECIPES:
        given = [file_of(options, file)]
        done = [
            train(options, "forecast", given, recipe, f"{file}-seed{s}", s) for s in options.seeds
        ]
        scores = tested(done[0])
        season = scores["baseline"]
        ratio = [tested(t)["mase"] / season["mase"] for t in done]
        beside = f"{season['mase']:.3f} ({season['name']}), {scores['mase_last_value']:.3f} (last)"
        rows.append(Row(f"{name}, MASE", [tested(t)["mase"] for t in done], "", beside, digits=3))
        rows.append(Row(f"{name}, share of the seasonal naive error", ratio, digits=3))
        seconds += [t.seconds for t in done]
    report(options, "Short series, test", rows, seconds)


if __name__ == "__main__":
    main()
