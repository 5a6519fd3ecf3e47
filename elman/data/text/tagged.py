"""Sentences with a tag for each word: CoNLL columns, or parallel files of words and tags."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from elman.data.core.lines import checked_encoding, read_lines
from elman.data.core.records import RecordSource, SkipLog
from elman.errors import DataError, require_positive

SEPARATORS = ("<>", "end", "<end>")
#: The names of parallel files in one folder: words, tags, and where there is one the label.
PARALLEL = ("seq.in", "seq.out", "label")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """Words, a tag for each, the label of the whole where the data have one, and the place."""

    words: list[str]
    tags: list[str]
    label: str | None
    where: str


def tagged_sentences(
    files: Sequence[str | Path],
    *,
    word_column: int = 1,
    tag_column: int | None = None,
    separators: Sequence[str] = SEPARATORS,
    encoding: str = "utf-8",
) -> RecordSource[TaggedSentence]:
    """Tagged sentences: parallel files (`PARALLEL`), or the folder of them; others are CoNLL.

    CoNLL: a word a line with its tag in another column, an empty line between sentences. For
    parallel files see `parallel_files`. Raises DataError, OptionError.
    """
    paths = [Path(file) for file in files]
    if not paths:
        raise DataError("no file is given to read tagged sentences from")
    if len(paths) == 1 and paths[0].is_dir():
        words, tags, label = (paths[0] / name for name in PARALLEL)
        if not words.is_file() or not tags.is_file():
            held = ", ".join(sorted(path.name for path in paths[0].iterdir())[:10]) or "nothing"
            raise DataError(
                f"{paths[0]}: a folder of tagged sentences holds {PARALLEL[0]} and {PARALLEL[1]} "
                f"(perhaps {PARALLEL[2]}), this one holds {held}"
            )
        return parallel_files(words, tags, label if label.exists() else None, encoding=encoding)
    if len(paths) > 1 and {path.name for path in paths} <= set(PARALLEL):
        return _named_files(paths, encoding)
    checked_encoding(encoding)
    for path in paths:
        next(read_lines(path, encoding), None)
    require_positive(word_column=word_column)
    if tag_column is not None:
        require_positive(tag_column=tag_column)

    def read(skipped: SkipLog) -> Iterator[TaggedSentence]:
        for path in paths:
            lines = _columns(path, encoding, separators, skipped)
            yield from _sentences(lines, word_column, tag_column)

    tag = "the last column" if tag_column is None else f"column {tag_column}"
    names = ", ".join(map(str, paths))
    return RecordSource(f"{names}: words in column {word_column}, tags in {tag}", read)


def _named_files(paths: Sequence[Path], encoding: str) -> RecordSource[TaggedSentence]:
    """Parallel files that are told apart by their names, in any order."""
    by_name = {path.name: path for path in paths}
    words, tags, label = (by_name.get(name) for name in PARALLEL)
    if words is None or tags is None or len(by_name) < len(paths):
        raise DataError(
            f"{', '.join(map(str, paths))}: parallel files are {PARALLEL[0]} and {PARALLEL[1]}, "
            f"perhaps {PARALLEL[2]}, one of each; or name their folder"
        )
    return parallel_files(words, tags, label, encoding=encoding)


def untagged_sentences(
    path: Path,
    *,
    word_column: int = 1,
    separators: Sequence[str] = SEPARATORS,
    encoding: str = "utf-8",
) -> Iterator[list[str]]:
    """The words of the sentences in a CoNLL file, whether it has tags or not."""
    words: list[str] = []
    for where, cells in _columns(path, encoding, separators, SkipLog()):
        if cells:
            words.append(_cell(where, cells, word_column, "word"))
        elif words:
            yield words
            words = []


def parallel_files(
    words: Path, tags: Path, label: Path | None = None, *, encoding: str = "utf-8"
) -> RecordSource[TaggedSentence]:
    """Files whose lines belong together: line i holds the words, the tags, the label of sentence i.

    Words and tags are split at white space. A line that is empty in all files is skipped and
    counted. Raises DataError for the first line where the files do not fit, with both counts.
    """
    paths = [words, tags] if label is None else [words, tags, label]
    for path in paths:
        next(read_lines(path, encoding), None)

    def read(skipped: SkipLog) -> Iterator[TaggedSentence]:
        for where, texts in parallel_lines(paths, encoding):
            sentence, its_tags, *whole = texts
            found = TaggedSentence(sentence.split(), its_tags.split(), None, where)
            if len(found.words) != len(found.tags):
                raise DataError(
                    f"{where}: {len(found.words)} words, but {len(found.tags)} tags in "
                    f"{tags.name}; each word needs one"
                )
            if not found.words:
                skipped.add("empty line", where)
            elif whole and not whole[0].strip():
                skipped.add("sentence without label", where)
            else:
                name = whole[0].strip() if whole else None
                yield TaggedSentence(found.words, found.tags, name, where)

    about = f"{words}: tags in {tags.name}" + (f", label in {label.name}" if label else "")
    return RecordSource(about, read)


def parallel_lines(paths: Sequence[Path], encoding: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where line i stands, and line i of each file; DataError where one has fewer than another."""
    columns = [read_lines(path, encoding) for path in paths]
    for number, texts in enumerate(zip_longest(*columns), 1):
        if None in texts:
            counts = [sum(1 for _ in read_lines(path, encoding)) for path in paths]
            shown = ", ".join(f"{path.name} {n}" for path, n in zip(paths, counts, strict=True))
            raise DataError(
                f"{paths[0]}: line {number}: the files must have equally many lines, they have: "
                f"{shown}"
            )
        yield f"{paths[0]}: line {number}", texts


def _columns(
    path: Path, encoding: str, separators: Sequence[str], skipped: SkipLog
) -> Iterator[tuple[str, list[str]]]:
    """Where each line stands and its columns, none where a sentence ends.

    Columns are apart by tabs where the first line of columns holds one, else by white space.
    A line that begins with ``#`` is a comment where it has not as many columns as the others, or
    where it begins with ``# `` and stands before the first word of a sentence.
    """
    width, tabs, begins = 0, False, True
    for number, line in enumerate(read_lines(path, encoding), 1):
        where, text = f"{path}: line {number}", line.strip()
        tabs = tabs if width else "\t" in line
        cells = [cell.strip() for cell in line.split("\t")] if tabs else text.split()
        if not text or text in separators:
            begins = True
            yield where, []
        elif _is_comment(text, len(cells), width, begins):
            skipped.add("comment", where)
        elif text.startswith("-DOCSTART-"):
            skipped.add("-DOCSTART- line", where)
            begins = True
            yield where, []
        else:
            width, begins = width or len(cells), False
            if len(cells) != width:
                raise DataError(
                    f"{where}: has {len(cells)} columns, the lines before have {width}; "
                    "sentences are apart by an empty line"
                )
            yield where, cells
    yield f"{path}: end", []


def _is_comment(text: str, columns: int, width: int, begins: bool) -> bool:
    if not text.startswith("#"):
        return False
    # "#" is a word too, and "#word" a frequent one.
    return (begins and text.startswith("# ")) or columns != (width or max(columns, 2))


def _sentences(
    lines: Iterator[tuple[str, list[str]]], word_column: int, tag_column: int | None
) -> Iterator[TaggedSentence]:
    words: list[str] = []
    tags: list[str] = []
    begin = ""
    for where, cells in lines:
        if cells:
            begin = begin or where
            words.append(_cell(where, cells, word_column, "word"))
            tags.append(_cell(where, cells, tag_column or max(2, len(cells)), "tag"))
        elif words:
            yield TaggedSentence(words, tags, None, begin)
            words, tags, begin = [], [], ""


def _cell(where: str, cells: Sequence[str], column: int, what: str) -> str:
    if column > len(cells) or not cells[column - 1]:
        raise DataError(
            f"{where}: has no {what} in column {column}: {' '.join(cells)[:40]!r}; a line holds a "
            f"word and its tag, columns count from 1 (--{what}-column)"
        )
    return cells[column - 1]
