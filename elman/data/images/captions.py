"""Pictures with captions: a folder or a table, COCO's JSON, Flickr8k's list."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from elman.data.core.lines import unpacked_name
from elman.data.core.reading import is_file
from elman.data.core.records import RecordSource, SkipLog
from elman.data.images.arrays import SUFFIXES as PICTURES
from elman.data.images.arrays import find_images
from elman.data.images.caption_files import (
    PICTURE_NAMES,
    Line,
    is_coco,
    lines_of_coco,
    lines_of_table,
    lines_of_text,
)
from elman.data.tables.table import SUFFIXES as TABLES
from elman.data.tables.table import Table, TableOptions, is_table
from elman.errors import DataError

#: What a folder's table of captions is called where it has several tables.
USUAL = ("captions", "metadata", "annotations", "labels")


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


def captioned_pictures(
    files: Sequence[str | Path], **options: Unpack[CaptionOptions]
) -> RecordSource[CaptionedPicture]:
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

    def read(skipped: SkipLog) -> Iterator[CaptionedPicture]:
        found: dict[Path, tuple[list[str], str]] = {}
        for one in lists:
            for file, caption, where in one.lines(skipped):
                found.setdefault(file, ([], where))[0].append(caption)
        for one in lists:
            one.count_silent(found, skipped)
        for file, (captions, where) in found.items():
            # Twice the same of one picture is once.
            yield CaptionedPicture(file, tuple(dict.fromkeys(captions)), where)

    return RecordSource(", ".join(one.about for one in lists), read)


def pictures_in(file: Path, **options: Unpack[CaptionOptions]) -> Iterator[Path]:
    """The pictures that a file names, whether it has captions or not: a picture itself, those in a
    folder, or those of a table or another list."""
    if file.is_dir():
        yield from find_images(file, deep=True)
    elif file.suffix.lower() in PICTURES:
        yield file
    elif is_table(file) and not is_coco(file, options.get("encoding", "utf-8")):
        table = Table(file, **_of_table(options))
        column = table.find("picture", PICTURE_NAMES, options.get("picture_column"))
        find = _Finder(_root(file, options))
        for row in table.rows(SkipLog()):
            yield find(str(row.values.get(column) or ""), row.where)
    else:
        source = captioned_pictures([file], **options)
        yield from (picture.file for picture in source)


@dataclass(frozen=True)
class _List:
    """One list of captions. read: its lines as they stand. folder: where each of its pictures
    should have a caption, None where that is not said."""

    about: str
    read: Callable[[SkipLog], Iterator[Line]]
    find: "_Finder"
    skip_bad: bool
    folder: Path | None = None

    def lines(self, skipped: SkipLog) -> Iterator[tuple[Path, str, str]]:
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

    def count_silent(self, found: Any, skipped: SkipLog) -> None:
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
        if is_file(path):
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
        about, read = lines_of_text(file, encoding)
    elif is_coco(file, encoding):
        about, read = lines_of_coco(file)
    else:
        columns = options.get("picture_column"), options.get("caption_column")
        about, read = lines_of_table(Table(file, **_of_table(options)), *columns)
    find = _Finder(_root(file, options))
    if options.get("images"):
        folder = None
    return _List(about, read, find, options.get("skip_bad", False), folder)


def _root(file: Path, options: CaptionOptions) -> Path:
    root = Path(options.get("images") or file.parent)
    if not root.is_dir():
        raise DataError(f"{root}: is no folder of pictures; name one with --images")
    return root


def _of_table(options: CaptionOptions) -> TableOptions:
    names = ("encoding", "header", "delimiter")
    return {name: options[name] for name in names if name in options}  # type: ignore[literal-required,return-value]


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
