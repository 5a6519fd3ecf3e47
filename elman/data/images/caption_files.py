"""The formats that lists of captions are kept in: tables, COCO's JSON, Flickr8k's lines."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from elman.data.core.lines import opened_text, read_lines
from elman.data.core.records import SkipLog
from elman.data.tables.rows import Row, read_cells
from elman.data.tables.table import SUFFIXES as TABLES
from elman.data.tables.table import Table
from elman.errors import DataError

PICTURE_NAMES = (
    *("file", "file_name", "filename", "image", "picture", "path", "image_path", "image_file"),
    "img",
)
CAPTION_NAMES = (
    *("caption", "captions", "text", "description", "sentence", "sentences", "title", "comment"),
)
#: FILE#NUMBER and a caption: Flickr8k.token.txt (Hodosh, Young & Hockenmaier 2013).
FLICKR = re.compile(r"(?P<file>[^\t]+\.\w+)#\d+\t(?P<caption>.*)")


class Line(NamedTuple):
    """A picture's name and one caption of it, as they stand in a file."""

    picture: str
    caption: str
    where: str


#: What is read, for people, and the lines of a list as they stand.
Lines = tuple[str, Callable[[SkipLog], Iterator[Line]]]


def lines_of_table(table: Table, picture: str | None, caption: str | None) -> Lines:
    """A caption a row, or a list of them, in columns of these names, else of usual ones."""
    picture = table.find("picture", PICTURE_NAMES, picture)
    caption = table.find("caption", CAPTION_NAMES, caption)
    if picture == caption:
        raise DataError(f"{table.file}: column '{picture}' cannot be both picture and caption")

    def read(skipped: SkipLog) -> Iterator[Line]:
        for row in table.rows(skipped):
            for text in _texts(row, caption) or [""]:
                yield Line(_texts(row, picture, several=False)[0].strip(), text, row.where)

    return f"{table.file}: picture '{picture}', caption '{caption}'", read


def _texts(row: Row, column: str, *, several: bool = True) -> list[str]:
    """A text, or a list of texts, in a row."""
    value = row.values.get(column)
    if value is None or isinstance(value, str):
        return [value or ""]
    if several and isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    kinds = "a text or a list of texts" if several else "the name of a file"
    raise DataError(f"{row.where}: '{column}' must be {kinds}, got {str(value)[:40]!r}")


def lines_of_text(file: Path, encoding: str) -> Lines:
    """Flickr8k's list, or the CSV with the names image, caption that it is also kept as."""
    first = next(read_lines(file, encoding), "")
    if [cell.strip().lower() for cell in first.split(",")] == ["image", "caption"]:
        return f"{file}: image, caption", lambda skipped: _csv(file, encoding, skipped)
    if not FLICKR.fullmatch(first):
        raise DataError(
            f"{file}: line 1: expected a picture's name with a number, a tab and a caption, as "
            f"'a.jpg#0<TAB>a dog runs', got {first[:40]!r}; other lists of captions are "
            f"{', '.join(TABLES)}"
        )
    return f"{file}: Flickr's captions", lambda skipped: _flickr(file, encoding, skipped)


def _csv(file: Path, encoding: str, skipped: SkipLog) -> Iterator[Line]:
    for number, (where, cells) in enumerate(read_cells(file, encoding, ",", skipped)):
        if len(cells) != 2:
            raise DataError(f"{where}: has {len(cells)} columns, expected image and caption")
        if number:
            yield Line(cells[0].strip(), cells[1], where)


def _flickr(file: Path, encoding: str, skipped: SkipLog) -> Iterator[Line]:
    for number, line in enumerate(read_lines(file, encoding), 1):
        where = f"{file}: line {number}"
        found = FLICKR.fullmatch(line)
        if found:
            yield Line(found["file"].strip(), found["caption"], where)
        elif line.strip():
            raise DataError(f"{where}: expected 'a.jpg#0<TAB>a caption', got {line[:40]!r}")


def is_coco(file: Path, encoding: str) -> bool:
    """Whether a .json file is one object over all its lines, or has COCO's annotations."""
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    with opened_text(file, encoding) as text:
        first = text.readline()
        try:
            value = json.loads(first)
        except ValueError:
            return True
        return isinstance(value, dict) and "annotations" in value


def lines_of_coco(file: Path) -> Lines:
    """Lin et al. 2014: images with id and file_name, annotations with image_id and caption."""
    try:
        value = json.loads(file.read_bytes())
        names = {image["id"]: str(image["file_name"]) for image in value["images"]}
        said = [(note["image_id"], note.get("caption")) for note in value["annotations"]]
        named = {picture for picture, _ in said}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is no JSON: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: must be COCO's captions, an object with 'images' (id, file_name) and "
            f"'annotations' (image_id, caption), or an object a line; it has not: {error!r}"
        ) from error
    odd = next((c for _, c in said if not isinstance(c, str | None)), None)
    if odd is not None:
        raise DataError(f"{file}: a caption must be a text, got {str(odd)[:40]!r}")
    if said and not any(caption for _, caption in said):
        raise DataError(
            f"{file}: its annotations have no captions; COCO's captions are in captions_*.json"
        )

    def read(skipped: SkipLog) -> Iterator[Line]:
        for number, (picture, caption) in enumerate(said, 1):
            yield Line(names.get(picture, ""), caption or "", f"{file}: annotation {number}")
        for picture, name in names.items():
            if picture not in named:
                yield Line(name, "", f"{file}: image {picture}")

    return f"{file}: COCO's captions", read
