"""What `elman train forecast` takes, and what stands for what is not said."""

from dataclasses import dataclass
from typing import Any

from elman.data.core.lines import checked_encoding
from elman.data.core.typed import typed
from elman.data.series.frequency import CYCLES, Frequency
from elman.data.series.panel_grid import DUPLICATES
from elman.data.series.panel_roles import Named
from elman.data.series.panel_rules import FILLS, Cuts, Rules
from elman.data.tables.table import TableOptions
from elman.errors import OptionError, require_positive, unknown
from elman.models.series.distribution_head import LEVELS, OUTPUTS, output_named
from elman.models.series.forecaster import CHANGES, DECODERS
from elman.models.series.forecaster import LEVELS as WINDOW_LEVELS
from elman.settings import option
from elman.train.options import ModelOptions

#: The steps after which the sunspots come again, about eleven years.
SUNSPOTS = {"yearly": 11, "monthly": 132}
#: No context is chosen to be longer because of a cycle longer than this.
LONGEST_CYCLE = 400


@dataclass(frozen=True)
class ForecastOptions(ModelOptions):
    """What `elman train forecast` takes beside the files."""

    horizon: int | None = option(
        None,
        "H, steps to forecast. [dim]default: a season where that is 4 to 30 steps, else 12[/]",
        "Data",
    )
    target: list[str] = option(
        [], "A column to forecast; may be repeated. [dim]default: all of numbers[/]", "Data"
    )
    future_covariates: list[str] = option(
        [], "A column whose future is known too, as a price; may be repeated.", "Data"
    )
    past_covariates: list[str] = option(
        [], "A column that is read and not forecast; may be repeated.", "Data"
    )
    time_column: str | None = option(
        None,
        "The column of times. [dim]default: time, date, ds, year ...; else row = step[/]",
        "Data",
    )
    series_column: str | None = option(
        None,
        "The column that tells series apart, in long form. [dim]default: series, id, symbol ...[/]",
        "Data",
    )
    day_first: bool = option(False, "Read 1/2/2024 as 1 February.", "Data")
    frequency: str | None = option(
        None, "Steps of the grid, as 15min, h, D, B, W, M, Q, Y. [dim]default: found out[/]", "Data"
    )
    season: int | None = option(
        None, "Steps after which things come again. [dim]default: by the frequency[/]", "Data"
    )
    missing: str = option(
        "carry", f"What takes the place of a missing value: {', '.join(FILLS)}.", "Data"
    )
    duplicates: str = option("error", f"Rows of one step: {', '.join(DUPLICATES)}.", "Data")
    valid_fraction: float = option(0.1, "Share of the time that validates.", "Data")
    test_fraction: float = option(0.1, "Share of the time, the last, that tests.", "Data")
    valid_from: str | None = option(None, "When validation begins, instead of a share.", "Data")
    test_from: str | None = option(None, "When the test part begins, instead of a share.", "Data")
    sunspots: str = option(
        "yearly", "Without files: the sunspots of each year or month: yearly, monthly.", "Data"
    )
    encoding: str = option("utf-8", "Encoding of the files, as latin-1.", "Data")
    header: bool = option(True, "Whether the first line of a table names the columns.", "Data")
    delimiter: str | None = option(
        None, "What stands between columns. [dim]default: by the file's name[/]", "Data"
    )
    context: int | None = option(
        None,
        "T, steps that are read. [dim]default: 3 horizons, 2 of the longest cycle, 32 at least[/]",
        "Model",
    )
    patch: int | None = option(
        None, "Steps that are read at once. [dim]default: 1, more of a long context[/]", "Model"
    )
    decoder: str = option("direct", f"How H steps are said: {', '.join(DECODERS)}.", "Model")
    output: str = option("quantiles", f"What is said of each: {', '.join(OUTPUTS)}.", "Model")
    quantile: list[float] = option(
        [], f"A quantile; may be repeated. [dim]default: {', '.join(map(str, LEVELS))}[/]", "Model"
    )
    level: str = option(
        "last", f"What a window is told relative to: {', '.join(WINDOW_LEVELS)}.", "Model"
    )
    scaled: bool = option(False, "Divide a window by its own deviation.", "Model")
    change_from: str = option(
        "level", f"What a forecast is a change from: {', '.join(CHANGES)}.", "Model"
    )
    linear: bool = option(True, "Add a linear map of the window.", "Model")
    calendar: bool = option(True, "Tell hour, weekday, day of year, where they fit.", "Model")
    joint: bool = option(False, "Read all columns at once, not each alone.", "Model")
    embedding: int | None = option(8, "Size of the vector of a series; 0: none.", "Model")
    num_samples: int = option(100, "Paths that an autoregressive decoder draws.", "Model")
    hidden: int = option(128, "Units in each layer.", "Model")
    dropout: float = option(0.2, "On what is read, between layers, on outputs.", "Regularisers")
    batch_size: int = option(128, "Windows side by side.", "Optimisation")
    learning_rate: float | None = option(0.001, "The highest rate.", "Optimisation")

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_encoding(self.encoding)
        maybe = ("horizon", "season", "context", "patch")
        require_positive(**{n: getattr(self, n) for n in maybe if getattr(self, n) is not None})
        require_positive(num_samples=self.num_samples)
        for name, valid in (
            ("decoder", DECODERS),
            ("output", OUTPUTS),
            ("level", WINDOW_LEVELS),
            ("change_from", CHANGES),
            ("missing", FILLS),
            ("duplicates", DUPLICATES),
            ("sunspots", tuple(SUNSPOTS)),
        ):
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)
        output_named(self.output, self.levels)
        self._check_shares()
        self._check_decoder()

    def _check_shares(self) -> None:
        for name, said in (("valid_fraction", self.valid_from), ("test_fraction", self.test_from)):
            if said is None and not 0 < getattr(self, name) < 1:
                raise OptionError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.valid_fraction + self.test_fraction >= 1:
            raise OptionError("valid_fraction and test_fraction leave nothing to train on")
        if self.embedding is None or self.embedding < 0:
            raise OptionError(f"embedding must be 0 or above, got {self.embedding}")

    def _check_decoder(self) -> None:
        if self.decoder != "autoregressive":
            return
        if self.patch not in (None, 1):
            raise OptionError("an autoregressive decoder reads step by step: --patch 1")
        if self.change_from != "level":
            raise OptionError("an autoregressive decoder says no change from a season before")
        if self.output in ("quantiles", "median"):
            raise OptionError(
                "an autoregressive decoder feeds what it draws: --output normal, student or mean"
            )

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles that are learnt and drawn."""
        return tuple(sorted(self.quantile)) or LEVELS

    @property
    def table(self) -> TableOptions:
        """How tables are written."""
        return {"encoding": self.encoding, "header": self.header, "delimiter": self.delimiter}

    @property
    def named(self) -> Named:
        """The columns that a person named."""
        return Named(
            self.time_column,
            self.series_column,
            tuple(self.target),
            tuple(self.future_covariates),
            tuple(self.past_covariates),
            self.day_first,
        )

    @property
    def cuts(self) -> Cuts:
        """Where training and validation end."""
        return Cuts(self.valid_fraction, self.test_fraction, self.valid_from, self.test_from)

    def rules(self, season: int | None) -> Rules:
        """What is done with tables that are not as they should be."""
        return Rules(self.frequency, self.duplicates, self.missing, season)


@dataclass(frozen=True)
class Shape:
    """The steps of a window, said or found out. cycles: of the calendar."""

    horizon: int
    context: int
    patch: int
    season: int
    cycles: tuple[str, ...]

    @classmethod
    def of(
        cls, options: ForecastOptions, frequency: Frequency, season: int, training: int
    ) -> "Shape":
        """training: steps of the longest series that are trained on."""
        cycles = frequency.cycles(training) if options.calendar else ()
        horizon = options.horizon or (season if 4 <= season <= 30 else 12)
        context = options.context or _context(frequency, cycles, season, horizon, training)
        patch = options.patch or _patch(options, context, season)
        return cls(horizon, -(-context // patch) * patch, patch, season, cycles)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        return {**vars(self), "cycles": list(self.cycles)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Shape":
        """The shape that `to_json` described; ValueError where it makes no sense."""
        shape: Shape = typed(cls, value)
        for name in ("horizon", "context", "patch", "season"):
            if getattr(shape, name) < 1:
                raise ValueError(f"{name} must be 1 or above, got {getattr(shape, name)}")
        for name in shape.cycles:
            if name not in CYCLES:
                raise ValueError(f"cycles are {', '.join(CYCLES)}, not {name}")
        return shape


def _context(
    frequency: Frequency, cycles: tuple[str, ...], season: int, horizon: int, training: int
) -> int:
    """Three horizons, two of the longest cycle, a season, 32; a third of the training at most."""
    lengths = [season]
    if frequency.step:
        lengths += [round(CYCLES[name][0] / frequency.step) for name in cycles]
    longest = max((n for n in lengths if n <= LONGEST_CYCLE), default=0)
    wanted = max(3 * horizon, 2 * longest, 32)
    return max(min(wanted, training // 3), min(season, training // 2), 1)


def _patch(options: ForecastOptions, context: int, season: int) -> int:
    """The largest part of a season that leaves twelve patches or more."""
    if context <= 48 or options.decoder == "autoregressive":
        return 1
    most = context // 12 if season == 1 else season
    parts = [p for p in range(1, most + 1) if most % p == 0 and context // p >= 12]
    # A context that a person named is not made longer.
    return max(p for p in parts if options.context is None or context % p == 0)
