import json
import re

import numpy as np
import pytest

import elman as library
from elman.tasks.forecast.backtest import naive

TINY = [
    *("--hidden", 12, "--batch-size", 16, "--learning-rate", 0.02, "--threads", 1, "--seed", 3),
    *("--context", 24, "--horizon", 4, "--dropout", 0),
]


def series(path, count=300, start=0, columns=("north", "south")):
    """Hourly waves of a day with noise, on a level that drifts."""
    draw = np.random.default_rng(1)
    noise = draw.normal(size=(start + count, len(columns))) * 0.2
    lines = [",".join(["time", *columns])]
    for i in range(start, start + count):
        hour = np.datetime64("2024-01-01T00:00") + np.timedelta64(i, "h")
        values = [
            (c + 1) * np.sin(2 * np.pi * i / 24) + i / 200 + noise[i, c]
            for c in range(len(columns))
        ]
        lines.append(",".join([str(hour), *(f"{v:.4f}" for v in values)]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(shared):
    path, run = shared
    run("forecast", series(path / "load.csv"), *TINY, "--steps", 120, "--out", "run")
    return path / "run"


def predicted(elman, run, file):
    out = elman("predict", run, "--file", file, "--json").out
    return [json.loads(line) for line in out.splitlines()]


def test_a_run_holds_scores_pictures_and_errors_by_step(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"scores.json", "forecasts.png", "curves.png", "backtest.csv"} <= names
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["part"] == "test" and scores["windows"] == 2 * 27
    assert scores["mse"] < scores["mse_last_value"]
    assert scores["baseline"]["name"] == "seasonal naive (24)"
    assert 0.5 < scores["coverage"] <= 1 and scores["coverage_wanted"] == pytest.approx(0.9)
    rows = (trained / "backtest.csv").read_text().splitlines()
    assert rows[0] == "step,mse_model,mse_last_value,mse_seasonal_naive" and len(rows) == 5


def test_predict_goes_on_after_the_end_of_a_file(trained, elman):
    new = series(trained.parent / "new.csv", 60, 300)
    done = elman("predict", trained, "--file", new)
    lines = done.out.splitlines()
    assert lines[0].startswith("time,series,forecast,0.05,0.1") and len(lines) == 9
    assert lines[1].startswith("2024-01-16 00:00:00,north,")
    records = predicted(elman, trained, new)
    assert [record["series"] for record in records] == ["north", "south"]
    truth = [2 * np.sin(2 * np.pi * i / 24) + i / 200 for i in range(360, 364)]
    assert np.abs(np.array(records[1]["forecast"]) - truth).mean() < 1
    first = float(lines[1].split(",")[2])
    assert records[0]["forecast"][0] == pytest.approx(first, rel=1e-4)
    short = series(trained.parent / "short.csv", 20, 300)
    done = elman("predict", trained, "--file", short)
    assert done.code == 0 and "the series has 20 steps, and 24 are read" in done.err


def test_eval_is_a_rolling_backtest(trained, elman):
    own = json.loads(elman("eval", trained, "--json").out)
    kept = json.loads((trained / "scores.json").read_text())
    assert own["mse"] == pytest.approx(kept["mse"], rel=1e-5)
    new = series(trained.parent / "later.csv", 60, 240)
    given = json.loads(elman("eval", trained, new, "--json").out)
    assert given["windows"] == 2 * (60 - 24 - 4 + 1)
    assert "seasonal naive" in elman("eval", trained, new).out
    short = series(trained.parent / "short.csv", 20, 300)
    assert "so 28 are needed" in elman("eval", trained, short).err


def test_the_last_forecast_of_a_stream_is_that_of_the_file(trained, elman, monkeypatch, tmp_path):
    new = series(trained.parent / "new.csv", 60, 300)
    whole = predicted(elman, trained, new)
    done = streamed(elman, monkeypatch, trained, new.read_bytes(), "--json")
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert len(answers) == 60 - 24 + 1 and "steps" in done.err
    for c in range(2):
        last = answers[-1]["forecasts"][c]
        assert last["time"] == whole[c]["time"]
        assert last["forecast"] == pytest.approx(whole[c]["forecast"], abs=2e-3)
    bad = streamed(elman, monkeypatch, trained, b"2024-01-01 00:00,1\n")
    assert bad.code == 1 and "line 1: has 1 values" not in bad.err and "has 2 values" in bad.err


def test_a_carried_state_sees_all_rows(elman, monkeypatch, tmp_path):
    data = series(tmp_path / "load.csv", columns=("a",))
    more = ["--level", "none", "--patch", 1, "--steps", 30]
    assert elman("train", "forecast", data, *TINY, *more, "--out", "run").code == 0
    rows = data.read_bytes().splitlines(keepends=True)[:26]
    done = streamed(elman, monkeypatch, "run", b"".join(rows), "--json")
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert len(answers) == 2
    # After exactly T rows stream and window have read the same.
    (tmp_path / "part.csv").write_bytes(b"".join(rows[:25]))
    whole = json.loads(elman("predict", "run", "--file", "part.csv", "--json").out)
    assert answers[0]["forecast"] == pytest.approx(whole["forecast"], abs=2e-3)


def streamed(elman, monkeypatch, run, content, *more):
    import io
    from types import SimpleNamespace

    stdin = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False)
    monkeypatch.setattr("elman.cli.predict.sys.stdin", stdin)
    return elman("predict", run, "--stream", *more)


def test_a_killed_run_goes_on_to_the_same_numbers(elman, tmp_path):
    data = series(tmp_path / "load.csv")
    command = ["train", "forecast", data, *TINY, "--dropout", 0.3]
    assert elman(*command, "--steps", 40, "--schedule", "constant", "--out", "whole").code == 0
    assert elman(*command, "--steps", 20, "--schedule", "constant", "--out", "part").code == 0
    assert elman("train", "--resume", "part", "--steps", 40).code == 0
    whole, part = (
        json.loads((tmp_path / name / "scores.json").read_text()) for name in ("whole", "part")
    )
    assert whole == part


def test_the_embedded_sunspots(elman, tmp_path):
    small = ["--hidden", 8, "--steps", 5, "--threads", 1]
    done = elman("train", "forecast", *small, "--out", "run")
    assert done.code == 0, done.err
    assert "1 series, yearly, season 11" in done.out


@pytest.mark.parametrize(
    "more",
    [
        ["--decoder", "autoregressive", "--output", "student", "--num-samples", 20],
        ["--joint", "--output", "normal", "--no-linear", "--scaled"],
        [
            *("--future-covariates", "south", "--target", "north", "--no-calendar", "--patch", 4),
            *("--decoder", "recurrent", "--output", "mean", "--change-from", "season"),
        ],
    ],
    ids=str,
)
def test_each_kind_of_model_from_the_command_line(elman, tmp_path, more):
    data = series(tmp_path / "load.csv")
    done = elman("train", "forecast", data, *TINY, *more, "--steps", 4, "--out", "run")
    assert done.code == 0, done.err
    if "--future-covariates" in more:
        assert (
            "south: must be given for 4 steps beyond" in elman("predict", "run", "--file", data).err
        )
        lines = data.read_text().splitlines()
        ahead = [re.sub(r",[^,]*,", ",,", row) for row in lines[-4:]]
        data.write_text("\n".join([*lines[:-4], *ahead]) + "\n")
    done = elman("predict", "run", "--file", data, "--json")
    assert done.code == 0, done.err
    assert '"quantiles": {"0.05": [' in done.out


def test_a_long_table_and_a_series_that_training_did_not_know(elman, tmp_path):
    wide = series(tmp_path / "load.csv").read_text().splitlines()[1:]
    cells = [line.split(",") for line in wide]
    rows = [f"{t},{name},{v}" for t, *vs in cells for name, v in zip("ab", vs, strict=True)]
    (tmp_path / "long.csv").write_text("\n".join(["time,series,value", *rows]) + "\n")
    done = elman("train", "forecast", "long.csv", *TINY, "--steps", 20, "--out", "run")
    assert done.code == 0 and "2 series, hourly" in done.out, done.err
    other = [row.replace(",b,", ",c,") for row in rows]
    (tmp_path / "other.csv").write_text("\n".join(["time,series,value", *other]) + "\n")
    out = elman("predict", "run", "--file", "other.csv").out
    assert ",a," in out and ",c," in out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--horizon", 40], "the valid part has 30 steps at most, and needs 40"),
        (["--context", 300], "the train part has 240 steps at most, and needs 304"),
        (["--target", "nort"], "did you mean 'north'"),
        (["--output", "quantile"], "did you mean 'quantiles'"),
        (["--decoder", "autoregressive"], "feeds what it draws: --output normal"),
        (["--patch", 4, "--decoder", "autoregressive", "--output", "normal"], "--patch 1"),
        (["--valid-fraction", 0.6, "--test-fraction", 0.6], "leave nothing to train on"),
        (["--frequency", "fortnight"], "write s, min, h"),
        (["--test-from", "soon"], "'soon' is no time"),
        (["--quantile", 1.5], "levels must rise between 0 and 1"),
        (["--valid-from", "2024-01-12", "--test-from", "2024-01-02"], "training must end before"),
    ],
)
def test_bad_input_says_what_to_do_and_leaves_no_folder(elman, tmp_path, more, said):
    data = series(tmp_path / "load.csv")
    done = elman("train", "forecast", data, *TINY, *more, "--steps", 2, "--out", "run")
    assert done.code in (1, 2)
    assert re.search(said, done.err.replace("\n", " ")), done.err
    assert not (tmp_path / "run").exists()


def test_a_file_of_another_kind(trained, elman):
    text = series(trained.parent / "daily.csv", 60).read_text()
    days = [np.datetime64("2024-01-01") + i for i in range(60)]
    rows = [
        f"{d},{row.split(',', 1)[1]}" for d, row in zip(days, text.splitlines()[1:], strict=True)
    ]
    (trained.parent / "daily.csv").write_text("\n".join(["time,north,south", *rows]) + "\n")
    done = elman("eval", trained, trained.parent / "daily.csv")
    assert "its rows are daily, those of the training were hourly" in done.err
    assert "series are read from files" in elman("predict", trained, "1 2 3").err


def test_naive_forecasts_reach_back_before_the_window(trained):
    processor = library.load(trained).processor
    windows = processor.windows("test")
    found = naive(windows.batch(np.array([5])))
    block, column = processor.panel.blocks[0], processor.panel.values[:, 0]
    _, origin = windows.places(np.array([5]))
    rows = block.begin + int(origin[0]) + np.arange(4)
    assert found["seasonal naive"].flatten().tolist() == column[rows - 24].tolist()
    assert found["last value"].flatten().tolist() == [column[rows[0] - 1]] * 4
    short = processor.windows_of(processor.panel, [(0, block.history)])
    first = naive(short.at(np.array([0]), np.array([2])))
    assert first["seasonal naive"].flatten().tolist() == first["last value"].flatten().tolist()


def test_the_picture_shows_several_moments(trained):
    from elman.tasks.forecast.plots import chosen_windows

    loaded = library.load(trained)
    windows = loaded.processor.windows("test")
    chosen = chosen_windows(windows)
    assert len(chosen) == len(set(chosen)) == 6 and max(chosen) == len(windows) - 1
