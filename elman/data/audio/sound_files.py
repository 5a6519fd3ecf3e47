"""Which sounds there are, and what is said of each: its label, or what is spoken in it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Unpack

from elman.data.audio.samples import SUFFIXES as SOUNDS
from elman.data.audio.samples import Sound, is_sound, sounds_below
from elman.data.core.lines import read_lines
from elman.data.core.reading import is_file
from elman.data.core.records import RecordSource, SkipLog
from elman.data.tables.rows import EMPTY_LINE, Row
from elman.data.tables.table import SUFFIXES, Table, TableOptions, is_table
from elman.data.text.labelled import LABEL_NAMES, label_of, text_of
from elman.errors import DataError

FILE_NAMES = (
    *("file", "path", "audio", "audio_file", "audio_path", "audio_filepath", "sound", "wav"),
    *("file_name", "filename", "wav_filename", "id"),
)
TRANSCRIPT_NAMES = (
    *("text", "transcript", "transcription", "sentence", "normalized_text", "utterance"),
)
#: Folders beside a table in which its sounds lie, as LJSpeech and Common Voice have them.
BESIDE = ("", "wavs", "wav", "clips", "audio", "recordings")
LIBRISPEECH = "*.trans.txt"

Read = Callable[[SkipLog], Iterator[Sound]]


def transcribed_sounds(
    files: Sequence[str | Path],
    *,
    file_column: str | None = None,
    text_column: str | None = None,
    skip_bad: bool = False,
    **options: Unpack[TableOptions],
) -> RecordSource[Sound]:
    """Sounds and what is spoken in them.

    Tables: a column of files, found beside the table or in a folder `BESIDE` it, and one of
    transcripts, each by its usual names; LJSpeech's metadata.csv, id|text or id|text|normalised
    text, is known by its lines. *.trans.txt: LibriSpeech's, id and text in a line. A folder:
    the *.trans.txt below it, else its table, else a .txt beside each sound. Rows without file or
    transcript are skipped and counted, with skip_bad also those whose file is missing.

    options: see `TableOptions`. Raises DataError: which file and line, what was expected.
    """
    paths = _expanded([Path(file) for file in files])
    readers: list[tuple[str, Read]] = []
    for path in paths:
        if path.name.endswith(LIBRISPEECH[1:]):
            readers.append((str(path), _lines_of(path, " ", options)))
        elif is_sound(path):
            readers.append((str(path), _beside(path, options)))
        elif path.suffix.lower() in (".csv", ".txt") and _is_ljspeech(path, options):
            readers.append((f"{path}: id|text", _lines_of(path, "|", options)))
        else:
            table = Table(path, **options)
            name = table.find("file", FILE_NAMES, file_column)
            text = table.find("text", TRANSCRIPT_NAMES, text_column)
            about = f"{path}: file '{name}', text '{text}'"
            readers.append((about, _rows_of(table, name, text, text_of)))
    return _source(readers, "transcript", skip_bad)


def labelled_sounds(
    files: Sequence[str | Path],
    *,
    file_column: str | None = None,
    label_column: str | None = None,
    labelled: bool = True,
    skip_bad: bool = False,
    **options: Unpack[TableOptions],
) -> RecordSource[Sound]:
    """Sounds, each with one label.

    Folders: one for each label; of one folder alone the folders in it. Tables: a column of files
    and one of labels, see `transcribed_sounds`. labelled: False takes the sounds alone.
    Raises DataError: which file and line, what was expected.
    """
    readers: list[tuple[str, Read]] = []
    paths = [Path(file) for file in files]
    folders = [path for path in paths if path.is_dir()]
    if labelled and len(folders) == len(paths) == 1:
        folders = sorted(p for p in folders[0].iterdir() if p.is_dir() and sounds_below(p))
        if len(folders) < 2:
            raise DataError(
                f"{paths[0]}: holds no two folders of sounds; expected a folder for each label, as "
                "in yes/a.wav, no/b.wav, or a table with a column of files and one of labels"
            )
        paths = folders
    for path in paths:
        if path.is_dir() or is_sound(path):
            label = "" if not labelled else path.name if path.is_dir() else path.parent.name
            found = sounds_below(path) if path.is_dir() else [path]
            readers.append((str(path), _all_of(found, label)))
            continue
        table = Table(path, **options)
        name = table.find("file", FILE_NAMES, file_column)
        if not labelled:
            readers.append((f"{path}: file '{name}'", _rows_of(table, name, name, lambda *_: "")))
            continue
        label = table.find("label", LABEL_NAMES, label_column)
        about = f"{path}: file '{name}', label '{label}'"
        readers.append((about, _rows_of(table, name, label, label_of)))
    return _source(readers, "label" if labelled else "", skip_bad)


def are_sounds(files: Sequence[str | Path], **options: Unpack[TableOptions]) -> bool:
    """Whether the first of files is a sound, a folder of sounds, or a table that names sounds."""
    path = Path(files[0])
    if path.is_dir():
        return bool(sounds_below(path))
    if not is_table(path) or not path.is_file():
        return is_sound(path)
    table = Table(path, **options)
    names = {name.lower(): name for name in reversed(table.columns)}
    column = next((names[usual] for usual in FILE_NAMES if usual in names), None)
    row = next(iter(table.rows(SkipLog())), None)
    return column is not None and row is not None and is_sound(str(row.values.get(column)))


# One reader a kind of file


def _source(readers: list[tuple[str, Read]], what: str, skip_bad: bool) -> RecordSource[Sound]:
    def read(skipped: SkipLog) -> Iterator[Sound]:
        for _, reader in readers:
            for sound in reader(skipped):
                path = sound.source
                if what and not sound.text.strip():
                    skipped.add(f"sound without {what}", sound.where)
                elif isinstance(path, Path) and not is_file(path):
                    if not skip_bad:
                        raise DataError(
                            f"{sound.where}: there is no sound {path}; correct the name, or leave "
                            "out what is missing: --skip-bad"
                        )
                    skipped.add("sound that is missing", sound.where)
                else:
                    yield sound

    named = [about for about, _ in readers]
    more = f" and {len(named) - 3} more" if len(named) > 4 else ""
    return RecordSource(", ".join(named[:3] if more else named) + more, read)


def _all_of(files: Sequence[Path], label: str) -> Read:
    return lambda skipped: (Sound(file, label, str(file)) for file in files)


def _rows_of(table: Table, file: str, column: str, of: Callable[[Row, str], str]) -> Read:
    def read(skipped: SkipLog) -> Iterator[Sound]:
        for row in table.rows(skipped):
            name = label_of(row, file)
            if name:
                yield Sound(_found(table.file.parent, name), of(row, column), row.where)
            else:
                skipped.add("row without file", row.where)

    return read


def _lines_of(path: Path, mark: str, options: TableOptions) -> Read:
    """An id and its text a line; the text is the last of what stands between marks."""

    def read(skipped: SkipLog) -> Iterator[Sound]:
        for number, line in enumerate(read_lines(path, options.get("encoding", "utf-8")), 1):
            where = f"{path}: line {number}"
            name, _, rest = line.partition(mark)
            text = rest.rpartition("|")[2] if mark == "|" else rest
            if line.strip():
                yield Sound(_found(path.parent, name.strip()), text.strip(), where)
            else:
                skipped.add(EMPTY_LINE, where)

    return read


def _beside(path: Path, options: TableOptions) -> Read:
    def read(skipped: SkipLog) -> Iterator[Sound]:
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise DataError(
                f"{path}: what is spoken in it? Expected a transcript in {text.name} beside it, or "
                f"a table of files and transcripts ({', '.join(SUFFIXES)})"
            )
        lines = read_lines(text, options.get("encoding", "utf-8"))
        yield Sound(path, " ".join(line.strip() for line in lines).strip(), str(path))

    return read


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """The files that folders stand for."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
        elif several := sorted(path.rglob(LIBRISPEECH)):
            found += several
        elif tables := sorted(p for p in path.iterdir() if is_table(p)):
            if len(tables) > 1:
                names = ", ".join(table.name for table in tables)
                raise DataError(f"{path}: which of its tables is to be read? Name one of {names}")
            found += tables
        elif sounds := sounds_below(path):
            found += sounds
        else:
            raise DataError(
                f"{path}: holds neither *.trans.txt nor a table ({', '.join(SUFFIXES)}) nor sounds "
                f"({', '.join(SOUNDS)})"
            )
    return found


def _is_ljspeech(path: Path, options: TableOptions) -> bool:
    """Whether the first line is id|text, and there is such a sound."""
    if options.get("delimiter") is not None or not path.is_file():
        return False
    line = next(iter(read_lines(path, options.get("encoding", "utf-8"))), "")
    return "|" in line and is_file(_found(path.parent, line.partition("|")[0].strip()))


def _found(folder: Path, name: str) -> Path:
    """The sound of this name or id, in the folder or in one beside."""
    given = Path(name)
    ends = [""] if is_sound(given) else ["", *SOUNDS]
    for beside in BESIDE:
        for end in ends:
            path = folder / beside / f"{given}{end}"
            if is_file(path):
                return path
    return folder / given
