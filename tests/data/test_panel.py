import numpy as np
import pytest

from elman.data.core.records import SkipLog
from elman.data.series.panel import Panel
from elman.data.series.panel_files import write_panel
from elman.data.series.panel_roles import Named
from elman.data.series.panel_rows import PanelRows
from elman.data.series.panel_rules import Cuts, Rules
from elman.data.series.windows import WindowBatches, Windows, shuffled
from elman.errors import DataError, OptionError, RunError


def table(path, rows, header="time,a,b"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def days(count, start=1):
    return [str(np.datetime64("2024-01-01") + i) for i in range(start - 1, start - 1 + count)]


def panel(file, tmp_path, cuts=(0.2, 0.2), rules=None, more=None, name="panel", **named):
    skipped = SkipLog()
    rows = PanelRows([file], named=Named(**named), **(more or {}))
    found = write_panel(
        tmp_path / name, rows, rules or Rules(), skipped, lambda *_: None, cuts=Cuts(*cuts)
    )
    return found, skipped, rows


def units(found):
    """The values of each series, in the units of the file."""
    values = {}
    for unit in found.units:
        block = found.blocks[unit.block]
        own = found.values[block.begin : block.begin + block.history, unit.column]
        values[unit.name] = own * unit.deviation + unit.mean
    return values


def test_a_wide_table(tmp_path):
    rows = [f"{day},{i},{10 * i % 7}" for i, day in enumerate(days(50))]
    found, skipped, source = panel(table(tmp_path / "a.csv", rows), tmp_path)
    assert source.about.endswith("time 'time' (year-month-day), forecast 'a', 'b'")
    assert found.frequency.name == "daily" and found.blocks[0].cuts == (30, 40)
    assert not skipped.total and found.measured is None
    assert np.allclose(units(found)["a"], np.arange(50), atol=1e-4)
    # Only training rows decide the scale.
    assert found.units[0].mean == pytest.approx(14.5)
    assert found.units[0].naive_error * found.units[0].deviation == pytest.approx(7)
    assert np.array_equal(Panel.open(tmp_path / "panel").values, found.values)


def test_a_long_table_in_any_order_is_the_wide_one(tmp_path):
    wide = [f"{day},{i},{10 * i % 7}" for i, day in enumerate(days(50))]
    first, _, _ = panel(table(tmp_path / "wide.csv", wide), tmp_path)
    rows = [f"{day},a,{i}" for i, day in enumerate(days(50))]
    rows += [f"{day},b,{10 * i % 7}" for i, day in enumerate(days(50))]
    order = np.random.default_rng(0).permutation(100)
    long = table(tmp_path / "long.csv", [rows[i] for i in order], "date,item,value")
    second, skipped, source = panel(long, tmp_path, name="long")
    assert "series 'item', forecast 'value'" in source.about
    assert "time earlier than the one before: sorted" in str(skipped)
    for name, values in units(first).items():
        assert np.allclose(values, units(second)[name], atol=1e-4)


def test_gaps_are_filled_and_counted(tmp_path):
    rows = [f"{day},{'' if i == 5 else i},{i * i % 11}" for i, day in enumerate(days(40))]
    del rows[20:23]
    file = table(tmp_path / "a.csv", rows)
    found, skipped, _ = panel(file, tmp_path)
    assert "7 x missing value filled (carry)" in str(skipped)
    a = units(found)["a"]
    assert a[5] == pytest.approx(4, abs=1e-4) and np.allclose(a[20:23], 19, atol=1e-4)
    assert found.measured is not None and found.measured.sum() == 2 * 40 - 7
    windows = Windows(found, 4, 3, [(0, 40)])
    weight = windows.at(np.array([0]), np.array([19])).tensors["weight"]
    assert weight[:, 0, 0].tolist() == [1, 0, 0]
    zero, _, _ = panel(file, tmp_path, rules=Rules(missing="zero"), name="zero")
    assert np.allclose(units(zero)["a"][20:23], 0, atol=1e-4)
    with pytest.raises(DataError, match="7 values are missing.*--missing carry"):
        panel(file, tmp_path, rules=Rules(missing="error"), name="error")
    assert not (tmp_path / "error").exists()


def test_doubled_steps(tmp_path):
    rows = [f"{day},{i},{i * i % 11}" for i, day in enumerate(days(40))]
    rows.insert(8, "2024-01-08,1007,3")
    file = table(tmp_path / "a.csv", rows)
    with pytest.raises(DataError, match="step 2024-01-08 has two rows.*--duplicates mean"):
        panel(file, tmp_path)
    mean, skipped, _ = panel(file, tmp_path, rules=Rules(duplicates="mean"))
    assert "1 x duplicate date; their mean taken" in str(skipped)
    assert units(mean)["a"][7] == pytest.approx(507, abs=1e-2)
    last, _, _ = panel(file, tmp_path, rules=Rules(duplicates="last"), name="last")
    assert units(last)["a"][7] == pytest.approx(1007, abs=1e-2)


def test_what_is_left_out(tmp_path):
    rows = [f"{day},{i % 5},7,{'' if i < 45 else i}" for i, day in enumerate(days(50))]
    found, skipped, _ = panel(table(tmp_path / "a.csv", rows, "time,a,b,c"), tmp_path)
    assert [unit.name for unit in found.units] == ["a"]
    assert "series that never changes in the training part (first: b)" in str(skipped)
    assert "series without a value in the training part (first: c)" in str(skipped)
    rows = [f"{day},," for day in days(50)]
    with pytest.raises(DataError, match="not one value"):
        panel(table(tmp_path / "b.csv", rows), tmp_path, name="b")


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (["2024-01-01,1,x", "2024-01-02,2,y"], "time,a,b", None),  # a series column
        (["2024-01-01,u,x"], "time,a,b", "'a' holds 'u', which is no number.*--target"),
        ([f"{d},{i}" for i, d in enumerate(days(9))] + ["2024-02-01,oops"], "time,a",
         "line 11: 'a' must be a number, got 'oops'"),
        (["2024-01-01,1", "soon,2"], "time,a", "line 3: 'soon' is no time; those before"),
        ([f"{d},{i}" for i, d in enumerate(days(9))] + ["2924-01-01,1"], "time,a",
         "9.*rows would be spread over|far from all others"),
        (["2024-01-01,1", "2024-01-02,2"], "time,a", "2 different times.*--frequency D"),
        ([f"{d},inf" for d in days(5)], "time,a", "line 2: 'a' is inf, beyond 1e100"),
    ],
)  # fmt: skip
def test_bad_tables_say_where_and_what_to_do(tmp_path, rows, header, said):
    file = table(tmp_path / "a.csv", rows, header)
    if said is None:
        assert PanelRows([file]).roles.series == "b"
        return
    with pytest.raises(DataError, match=said):
        panel(file, tmp_path)
    assert not (tmp_path / "panel").exists()


def test_roles_that_a_person_names(tmp_path):
    rows = [f"{day},{i},{i % 3},{i % 4},x" for i, day in enumerate(days(50))]
    file = table(tmp_path / "a.csv", rows, "time,a,price,mood,note")
    found, _, source = panel(
        file, tmp_path, targets=("a",), future_covariates=("price",), past_covariates=("mood",)
    )
    assert found.roles.numbers == ("a", "price", "mood") and found.roles.ignored == ("note",)
    assert "future covariates 'price', past covariates 'mood', not read 'note'" in source.about
    with pytest.raises(OptionError, match="'a' cannot be two things"):
        panel(file, tmp_path, targets=("a",), future_covariates=("a",), name="b")
    with pytest.raises(DataError, match="did you mean 'price'"):
        panel(file, tmp_path, targets=("prize",), name="c")


def test_other_ways_to_write_a_table(tmp_path):
    rows = [f"{day[8:]}.{day[5:7]}.{day[:4]};{i},5" for i, day in enumerate(days(40))]
    file = table(tmp_path / "eu.csv", rows, "datum;wert")
    found, _, source = panel(file, tmp_path, more={"delimiter": ";"})
    assert "time 'datum' (day.month.year)" in source.about
    assert units(found)["wert"][3] == pytest.approx(3.5, abs=1e-4)
    no_time = table(tmp_path / "plain.csv", [f"{0.5 * i},{i % 9}" for i in range(40)], "u,v")
    found, _, source = panel(no_time, tmp_path, name="plain")
    assert "a row a step" in source.about and len(found.units) == 2


def test_parquet(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    times = np.arange("2024-01-01", "2024-01-03", dtype="M8[h]").astype("M8[us]")
    columns = {"ts": pa.array(times), "load": pa.array(np.arange(48.0) % 7)}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    found, _, source = panel(tmp_path / "a.parquet", tmp_path)
    assert "time 'ts'" in source.about and found.frequency.name == "hourly"
    assert np.allclose(units(found)["load"], np.arange(48) % 7, atol=1e-4)


def test_the_embedded_sunspots(tmp_path):
    from elman.data.embedded import embedded_file

    for name, count, last in (("yearly", 309, 2.9), ("monthly", 3126, 2.6)):
        file = embedded_file(f"sunspots.{name}.csv.gz")
        found, skipped, _ = panel(file, tmp_path, name=name)
        assert found.frequency.name == name and found.blocks[0].history == count
        assert units(found)["sunspots"][-1] == pytest.approx(last, abs=1e-3)
        assert not skipped.total


def test_small_chunks_give_the_same(tmp_path, monkeypatch):
    import elman.data.series.panel_files as files
    import elman.data.series.panel_grid as grid
    import elman.data.series.panel_rows as table_rows

    rows = [f"{day},{'' if i % 7 == 3 else i},{i * i % 11}" for i, day in enumerate(days(60))]
    rows[30:30] = [rows[29].replace(",", ",1", 1)]
    file = table(tmp_path / "a.csv", rows)
    whole, _, _ = panel(file, tmp_path, rules=Rules(duplicates="mean"))
    monkeypatch.setattr(grid, "CHUNK", 4)
    monkeypatch.setattr(files, "CHUNK", 5)
    monkeypatch.setattr(table_rows, "BATCH_ROWS", 7)
    pieces, _, _ = panel(file, tmp_path, rules=Rules(duplicates="mean"), name="pieces")
    assert np.allclose(whole.values, pieces.values, atol=1e-6)
    assert np.array_equal(whole.measured, pieces.measured)
    assert whole.units[0].mean == pytest.approx(pieces.units[0].mean)


def test_windows_are_the_rows_they_name(tmp_path):
    rows = [f"{day},{i},{100 + i * i % 50}" for i, day in enumerate(days(50))]
    found, _, _ = panel(table(tmp_path / "a.csv", rows), tmp_path)
    windows = Windows(found, 6, 3, [found.blocks[0].part("train")], cycles=("week",))
    assert len(windows) == 2 * (30 - 6 - 3 + 1)
    t = windows.batch(np.arange(len(windows))).tensors
    a = t["y"][:, :22, 0] * found.units[0].deviation + found.units[0].mean
    assert np.allclose(a[:, 5], np.arange(5, 11), atol=1e-3)
    assert np.allclose(
        t["target"][0, :22, 0] * found.units[0].deviation + found.units[0].mean,
        np.arange(6, 28),
        atol=1e-3,
    )
    assert t["x"].shape == (9, 44, 2) and t["series"].tolist() == [1] * 22 + [2] * 22
    valid = Windows(found, 6, 3, [found.blocks[0].part("valid")])
    _, origins = valid.places(np.arange(len(valid)))
    assert origins.min() == 30 and origins.max() == 37
    joint = Windows(found, 6, 3, [(0, 50)], joint=True)
    assert joint.batch(np.array([0])).tensors["y"].shape == (6, 1, 2)


def test_a_pass_has_every_window_once_and_is_a_function_of_the_step(tmp_path):
    rows = [f"{day},{i},{i * i % 50}" for i, day in enumerate(days(50))]
    found, _, _ = panel(table(tmp_path / "a.csv", rows), tmp_path)
    windows = Windows(found, 6, 3, [(0, 30)])
    batches = WindowBatches(windows, 8, seed=3)
    passed = [np.concatenate([batches.indices(s + k * 6) for s in range(6)]) for k in range(2)]
    assert all(sorted(p.tolist()) == list(range(44)) for p in passed)
    assert (passed[0] != passed[1]).any() and (np.diff(passed[0]) != 1).any()
    again = WindowBatches(windows, 8, seed=3)
    assert np.array_equal(again.indices(9), batches.indices(9))
    assert len(WindowBatches(windows, 8, least=50)) == 54
    assert batches.batch(0, slice(0, 0)).tensors["y"].shape == (6, 0, 1)
    assert sorted(shuffled(np.arange(1), 1, (0, 0))) == [0]


def test_a_damaged_folder_is_refused(tmp_path):
    rows = [f"{day},{i},{i * i % 50}" for i, day in enumerate(days(50))]
    panel(table(tmp_path / "a.csv", rows), tmp_path)
    values = tmp_path / "panel" / "values.npy"
    values.write_bytes(values.read_bytes()[:-40])
    with pytest.raises(RunError, match="cannot be read as .npy"):
        Panel.open(tmp_path / "panel")
