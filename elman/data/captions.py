"""Pictures with captions: a folder or a table, COCO's JSON, Flickr8k's list."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from elman.data.images import SUFFIXES as PICTURES
from elman.data.images import find_images
from elman.data.lines import opened_text, read_lines, unpacked_name
from elman.data.rows import Row, read_cells
from elman.data.source import Skipped, Source
from elman.data.tables import SUFFIXES as TABLES
from elman.data.tables import Table, TableOptions, is_table
from elman.errors import DataError

PICTURE_NAMES = (
    *("file", "file_name", "filename", "image", "picture", "path", "image_path", "image_file"),
    "img",
)
CAPTION_NAMES = (
    *("caption", "captions", "text", "description", "sentence", "sentences", "title", "comment"),
)
#: What a folder's table of captions is called where it has several tables.
USUAL = ("captions", "metadata", "annotations", "labels")
#: FILE#NUMBER and a caption: Flickr8k.token.txt (Hodosh, Young & Hockenmaier 2013).
FLICKR = re.compile(r"(?P<file>[^\t]+\.\w+)#\d+\t(?P<caption>.*)")


@dataclass(frozen=True, slots=True)
class CaptionedPicture:
    """A picture's file, all that is said of it, and where the first of that stands."""

    file: Path
    captions: tuple[str, ...]
    where: str


class CaptionOptions(TableOptions, total=False):
    """Where captions and pictures are found.

    images: the folder of the pictures; that of the captions' file where not given.
    picture_column, caption_column: of a table. skip_bad: leave out, and count, captions whose
    picture is missing.
    """

    images: str | Path | None
    picture_column: str | None
    caption_column: str | None
    skip_bad: bool


class _Line(NamedTuple):
    """A picture's name and one caption of it, as they stand in a file."""

    picture: str
    caption: str
    where: str


def captioned_pictures(
    files: Sequence[str | Path], **options: Unpack[CaptionOptions]
) -> Source[CaptionedPicture]:
    """Pictures with their captions, each picture once, in the order in which they are named.

    files: of each kind any: a folder with pictures and one table; a table with a column of
    pictures and one of captions, a caption a row or a list of them; COCO's JSON of captions;
    Flickr8k's lines ``a.jpg#0<TAB>caption``, or its CSV in a .txt. A picture is found by its
    path from ``images``, or where it is not there by its name in any folder below.

    Empty captions and rows without a picture are skipped and counted, and in a folder pictures
    without a caption. Raises DataError: where, what was expected, what to do.
    """
    if not files:
        raise DataError("no file is given to read captions from")
    lists = [_listed(Path(file), options) for file in files]

    def read(skipped: Skipped) -> Iterator[CaptionedPicture]:
        found: dict[Path, tuple[list[str], str]] = {}
        for one in lists:
            for file, caption, where in one.lines(skipped):
                found.setdefault(file, ([], where))[0].append(caption)
        for one in lists:
            one.count_silent(found, skipped)
        for file, (captions, where) in found.items():
            # Twice the same of one picture is once.
            yield CaptionedPicture(file, tuple(dict.fromkeys(captions)), where)

    return Source(", ".join(one.about for one in lists), read)


def pictures_in(file: Path, **options: Unpack[CaptionOptions]) -> Iterator[Path]:
    """The pictures that a file names, whether it has captions or not: a picture itself, those in a
    folder, or those of a table or another list."""
    if file.is_dir():
        yield from find_images(file, deep=True)
    elif file.suffix.lower() in PICTURES:
        yield file
    elif is_table(file) and not _is_coco(file, options.get("encoding", "utf-8")):
        table = Table(file, **_of_table(options))
        column = table.find("picture", PICTURE_NAMES, options.get("picture_column"))
        find = _Finder(_root(file, options))
        for row in table.rows(Skipped()):
            yield find(str(row.values.get(column) or ""), row.where)
    else:
        source = captioned_pictures([file], **options)
        yield from (picture.file for picture in source)


@dataclass(frozen=True)
class _List:
    """One list of captions. read: its lines as they stand. folder: where each of its pictures
    should have a caption, None where that is not said."""

    about: str
    read: Callable[[Skipped], Iterator[_Line]]
    find: "_Finder"
    skip_bad: bool
    folder: Path | None = None

    def lines(self, skipped: Skipped) -> Iterator[tuple[Path, str, str]]:
        """The lines that are whole, each with its picture's file."""
        for picture, caption, where in self.read(skipped):
            text = " ".join(caption.split())
            if not picture or not text:
                reason = "picture without a caption" if picture else "caption without a picture"
                skipped.add(reason if picture or text else "row without anything", where)
                continue
            try:
                yield self.find(picture, where), text, where
            except DataError as error:
                if not self.skip_bad:
                    raise DataError(
                        f"{error}; --skip-bad leaves such captions out, and counts them"
                    ) from error
                skipped.add("caption whose picture is missing", where)

    def count_silent(self, found: Any, skipped: Skipped) -> None:
        """Count the pictures of the folder that nothing is said of."""
        if self.folder is not None:
            silent = [path for path in find_images(self.folder, deep=True) if path not in found]
            if silent:
                skipped.add("picture without a caption", str(silent[0]), len(silent))


class _Finder:
    """Pictures by the names that captions have for them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] | None = None

    def __call__(self, name: str, where: str) -> Path:
        """The file; DataError where it is not there, or several have its name."""
        path = self.root / name
        if path.is_file():
            return path
        found = self._named(Path(name).name)
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{where}: which picture is '{name}'? There are {found[0]} and {found[1]}; write "
                f"its path from {self.root}, or name another folder: --images"
            )
        raise DataError(
            f"{where}: there is no picture '{name}' in {self.root}; name their folder, as in "
            "--images pictures"
        )

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = {}
            for path in sorted(self.root.glob("**/*")):
                if path.suffix.lower() in PICTURES and path.is_file():
                    self._by_name.setdefault(path.name, []).append(path)
        return self._by_name.get(name, [])


def _listed(file: Path, options: CaptionOptions) -> _List:
    """The list that a file or a folder holds."""
    folder = file if file.is_dir() else None
    if folder is not None:
        file = _table_in(folder)
    encoding = options.get("encoding", "utf-8")
    if file.suffix.lower() == ".txt":
        about, read = _text(file, encoding)
    elif _is_coco(file, encoding):
        about, read = f"{file}: COCO's captions", _coco(file)
    else:
        about, read = _table(Table(file, **_of_table(options)), options)
    find = _Finder(_root(file, options))
    return _List(about, read, find, options.get("skip_bad", False), folder)


def _root(file: Path, options: CaptionOptions) -> Path:
    root = Path(options.get("images") or file.parent)
    if not root.is_dir():
        raise DataError(f"{root}: is no folder of pictures; name one with --images")
    return root


def _of_table(options: CaptionOptions) -> TableOptions:
    names = ("encoding", "header", "delimiter")
    return {name: options[name] for name in names if name in options}  # type: ignore


def _table_in(folder: Path) -> Path:
    """The file of captions in a folder."""
    kinds = (*TABLES, ".txt")
    found = sorted(p for p in folder.iterdir() if unpacked_name(p).suffix.lower() in kinds)
    usual = [p for p in found if unpacked_name(p).stem.lower() in USUAL]
    chosen = usual if len(usual) == 1 else found
    if len(chosen) == 1:
        return chosen[0]
    held = ", ".join(path.name for path in chosen[:10]) or "no table"
    raise DataError(
        f"{folder}: must hold one table of files and captions, as captions.csv, beside the "
        f"pictures; it holds {held}; name the table itself, and the pictures with --images"
    )


def _table(
    table: Table, options: CaptionOptions
) -> tuple[str, Callable[[Skipped], Iterator[_Line]]]:
    picture = table.find("picture", PICTURE_NAMES, options.get("picture_column"))
    caption = table.find("caption", CAPTION_NAMES, options.get("caption_column"))
    if picture == caption:
        raise DataError(f"{table.file}: column '{picture}' cannot be both picture and caption")

    def read(skipped: Skipped) -> Iterator[_Line]:
        for row in table.rows(skipped):
            for text in _texts(row, caption) or [""]:
                yield _Line(_texts(row, picture, several=False)[0].strip(), text, row.where)

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


def _text(file: Path, encoding: str) -> tuple[str, Callable[[Skipped], Iterator[_Line]]]:
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


def _csv(file: Path, encoding: str, skipped: Skipped) -> Iterator[_Line]:
    for number, (where, cells) in enumerate(read_cells(file, encoding, ",", skipped)):
        if len(cells) != 2:
            raise DataError(f"{where}: has {len(cells)} columns, expected image and caption")
        if number:
            yield _Line(cells[0].strip(), cells[1], where)


def _flickr(file: Path, encoding: str, skipped: Skipped) -> Iterator[_Line]:
    for number, line in enumerate(read_lines(file, encoding), 1):
        where = f"{file}: line {number}"
        found = FLICKR.fullmatch(line)
        if found:
            yield _Line(found["file"].strip(), found["caption"], where)
        elif line.strip():
            raise DataError(f"{where}: expected 'a.jpg#0<TAB>a caption', got {line[:40]!r}")


def _is_coco(file: Path, encoding: str) -> bool:
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


def _coco(file: Path) -> Callable[[Skipped], Iterator[_Line]]:
    """Lin et al. 2014: images with id and file_name, annotations with image_id and caption."""
    try:
        value = json.loads(file.read_bytes())
        names = {image["id"]: str(image["file_name"]) for image in value["images"]}
        said = [(note["image_id"], note.get("caption")) for note in value["annotations"]]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is no JSON: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: must be COCO's captions, an object with 'images' (id, file_name) and "
            f"'annotations' (image_id, caption), or an object a line; it has not: {error!r}"
        ) from error
    if said and not any(isinstance(caption, str) for _, caption in said):
        raise DataError(
            f"{file}: its annotations have no captions; COCO's captions are in captions_*.json"
        )

    def read(skipped: Skipped) -> Iterator[_Line]:
        mute = Counter(names) - Counter(picture for picture, _ in said)
        for number, (picture, caption) in enumerate(said, 1):
            yield _Line(names.get(picture, ""), caption or "", f"{file}: annotation {number}")
        for picture in mute:
            yield _Line(names[picture], "", f"{file}: image {picture}")

    return read
