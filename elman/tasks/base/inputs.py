"""From records to what a model reads: the ids of a text's units, or scaled numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from elman.data.core.files import loaded, write_json
from elman.data.core.lines import read_lines, unpacked_name
from elman.data.core.records import RecordSource, SkipLog
from elman.data.core.scalers import Binarizer, StandardScaler, scale_from_json
from elman.data.images.arrays import FITS, parse_size
from elman.data.images.pictures import PictureOptions, is_pictures, pixel_order
from elman.data.series.labelled import LabelledSeries, labelled_series
from elman.data.series.series_files import as_float32
from elman.data.tables.table import Table, is_table
from elman.data.text.encoder import TextEncoder
from elman.data.text.labelled import TEXT_NAMES, LabelledText, labelled_texts, text_of
from elman.errors import DataError, OptionError, unknown
from elman.settings import option
from elman.tasks.base.options import MediaOptions, TextOptions

KINDS = ("auto", "text", "numbers")
Record = LabelledText | LabelledSeries
#: Files that hold series of numbers and nothing else.
NUMBERS = (".ts", ".npz")


@dataclass(frozen=True)
class InputOptions(TextOptions, MediaOptions):
    """What every task takes that reads texts or series of numbers."""

    #: What --kind can be.
    kinds: ClassVar[tuple[str, ...]] = KINDS

    kind: str = option("auto", f"What the files hold: {', '.join(KINDS)}.", "Data")
    text_column: str | None = option(
        None, "The column of texts. [dim]default: text, sentence, review ...[/]", "Data"
    )
    label_column: str | None = option(
        None, "The column of labels. [dim]default: label, class, intent ...[/]", "Data"
    )
    step_size: int | None = option(
        None, "Numbers in a row of a table, or values of a picture, that make one step. "
        "[dim]default: 1; a row of the picture[/]", "Data",
    )  # fmt: skip
    missing: str | None = option(
        None, "What takes the place of a missing number: carry (the step before) or zero.", "Data"
    )
    size: str | None = option(
        None, "Height and width of pictures, as 28 or 24x32. [dim]default: as they are[/]",
        "Pictures",
    )  # fmt: skip
    fit: str = option("crop", f"How others are made that size: {', '.join(FITS)}.", "Pictures")
    colour: bool = option(False, "Read red, green and blue, not grey.", "Pictures")
    permute: int | None = option(
        None, "Read the pixels in an order drawn from this seed.", "Pictures"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in self.kinds:
            raise unknown("kind", self.kind, self.kinds)
        if self.fit not in FITS:
            raise unknown("fit", self.fit, FITS)
        if self.size is not None:
            parse_size(self.size)
        pixel_order(1, self.permute)

    def read(self, files: list[str], labelled: bool = True, **more: Any) -> RecordSource[Any]:
        """The texts or series in files; their labels are "" where labelled is False."""
        how: dict[str, Any] = {"label_column": self.label_column, "labelled": labelled}
        if self.holds_numbers(files):
            self._require_no_text(files[0])
            images: PictureOptions = {
                "size": self.size,
                "fit": self.fit,
                "colour": self.colour,
                "skip_bad": self.skip_bad,
            }
            of_pictures = {"permute": self.permute, "images": images}
            given = {"step_size": self.step_size, "missing": self.missing, **of_pictures, **more}
            return labelled_series(files, **how, **given, **self.table)
        return labelled_texts(files, text_column=self.text_column, **how, **self.table)

    def _require_no_text(self, file: str) -> None:
        """Raise OptionError where something is said of texts, and the files hold numbers."""
        default = {f.name: f.default for f in fields(self)}
        for name in ("text_column", "tokenizer", "vocab_size", "min_count", "lower_case"):
            if getattr(self, name) != default[name]:
                raise OptionError(
                    f"{name} is for texts, and {file} holds series of numbers; leave it out, or "
                    "say --kind text"
                )

    def holds_numbers(self, files: list[str]) -> bool:
        """Whether files hold series of numbers: .ts, .npz and pictures do, a table without a column
        that is usually one of texts, whose first row holds numbers."""
        if self.kind != "auto":
            return self.kind == "numbers"
        suffix = unpacked_name(Path(files[0])).suffix.lower()
        if suffix in NUMBERS or is_pictures(files[0]):
            return True
        if self.text_column is not None or not is_table(files[0]):
            return False
        table = Table(files[0], **self.table)
        if {name.lower() for name in table.columns} & set(TEXT_NAMES):
            return False
        row = next(iter(table.rows(SkipLog())), None)
        return row is not None and sum(map(_is_number, row.values.values())) >= len(row.values) - 1


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return True
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None
    return True


def value_of(record: Record) -> Any:
    """The text of a record, or its series."""
    return record.text if isinstance(record, LabelledText) else record.values


class Inputs:
    """What a model reads: [T] ids of units, or [T, F] scaled numbers."""

    def __init__(
        self, units: TextEncoder | None = None, scale: StandardScaler | Binarizer | None = None
    ) -> None:
        self.units = units
        self.scale = scale

    @classmethod
    def fit(
        cls,
        records: RecordSource[Any],
        options: InputOptions,
        *,
        specials: Sequence[str] = (),
        binary: bool = False,
    ) -> "Inputs":
        """Fit units or scale to the training part.

        specials: see `TextEncoder`. binary: of numbers a `Binarizer` is fitted.
        """
        first = next(iter(records), None)
        if first is None:
            raise DataError(f"{records.about}: holds no example; {records.skipped}")
        if isinstance(first, LabelledSeries):
            scale = Binarizer if binary else StandardScaler
            return cls(scale=scale.fit(record.values for record in records))
        return cls(
            TextEncoder.fit(
                options.tokenizer,
                (record.text for record in records),
                vocab_size=options.vocab_size,
                min_count=options.least_count,
                lower_case=options.lower_case,
                specials=specials,
                bpe_sample=options.bpe_sample,
            )
        )

    @property
    def size(self) -> dict[str, Any]:
        """What a model is told: how many units there are, or how many numbers a step has."""
        if self.units is not None:
            return {"vocab_size": self.units.vocab_size}
        assert self.scale is not None
        return {"input_size": self.scale.size}

    @property
    def unknown_id(self) -> int | None:
        """The id of a unit that was never seen, where there is one."""
        return None if self.units is None else self.units.tokenizer.unknown_id

    def encode(self, value: Any) -> NDArray[Any]:
        """A text as [T] ids, or [T, F] numbers scaled."""
        if self.units is not None:
            if not isinstance(value, str):
                raise DataError(f"a series of {len(value)} steps: the model reads texts")
            return self.units.encode(value)
        assert self.scale is not None
        if isinstance(value, str):
            raise DataError(f"'{value[:40]}': is a text, and the model reads series of numbers")
        if value.shape[1] != self.scale.size:
            raise DataError(
                f"a step has {value.shape[1]} numbers, the model was trained with {self.scale.size}"
            )
        return self.scale(value)

    def decode(self, encoded: Any) -> Any:
        """What `encode` gave as a text, or as [T, F] numbers in the units that they came in."""
        if self.units is not None:
            return self.units.decode(encoded)
        assert self.scale is not None
        return self.scale.back(encoded)

    def parse(self, text: str) -> Any:
        """A line as an input: itself, or its numbers, with ; between the steps."""
        if self.units is not None:
            return text
        assert self.scale is not None
        size = self.scale.size
        try:
            values = [float(v) for v in text.replace(";", " ").replace(",", " ").split()]
        except ValueError as error:
            raise DataError(f"'{text[:40]}': expected numbers, steps of {size}: {error}") from error
        if len(values) % size:
            raise DataError(f"'{text[:40]}': {len(values)} numbers make no steps of {size}")
        found = as_float32(values).reshape(-1, size)
        if not np.isfinite(found).all():
            raise DataError(f"'{text[:40]}': has a number that is not finite in float32")
        return found

    def line(self, value: Any) -> str:
        """A line that `parse` reads as this input again."""
        if self.units is not None:
            return str(value)
        return "; ".join(" ".join(f"{number:.6g}" for number in step) for step in value)

    def read(self, file: str | Path, options: InputOptions, **more: Any) -> Iterator[Any]:
        """The inputs in a file; where it has labels they are not looked at."""
        if self.units is None:
            return (value_of(record) for record in options.read([str(file)], **more))
        if unpacked_name(Path(file)).suffix.lower() in NUMBERS:
            raise DataError(f"{file}: holds series of numbers, and the model reads texts")
        if not is_table(file):
            return (line for line in read_lines(Path(file), options.encoding) if line.strip())
        table = Table(file, **options.table)
        column = table.find("text", TEXT_NAMES, options.text_column)
        return (text_of(row, column) for row in table.rows(SkipLog()))

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        units, scale = self.units, self.scale
        write_json(
            path,
            {
                "units": None if units is None else units.to_json(),
                "scale": None if scale is None else scale.to_json(),
            },
        )

    @classmethod
    def load(cls, path: Path, specials: Sequence[str] = ()) -> "Inputs":
        """Read what `save` wrote; RunError where it is missing, damaged or foreign, or its units
        lack one of the special ids ``specials``."""

        def read(value: Any) -> "Inputs":
            inputs = cls.from_json(value)
            for name in specials:
                if inputs.units is not None and name not in inputs.units.special_ids:
                    raise ValueError(f"the units have no '{name}' id")
            return inputs

        return loaded(path, "inputs", read)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Inputs":
        """The inputs that `save` described."""
        units, scale = value["units"], value["scale"]
        if (units is None) == (scale is None):
            raise ValueError("inputs are either texts, with units, or numbers, with a scale")
        return cls(TextEncoder.from_json(units)) if units else cls(scale=scale_from_json(scale))
