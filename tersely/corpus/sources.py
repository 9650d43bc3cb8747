"""From the paths a user gives to the inputs they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tersely.corpus.fasta import HEADER, fasta_batches
from tersely.corpus.files import ByteStream
from tersely.corpus.jsonl import jsonl_batches
from tersely.corpus.read import Batch, Rejected, Source
from tersely.corpus.text import check_column, parquet_batches, text_batches
from tersely.errors import CorpusError, UsageError, choose

_ARCHIVE_ENDINGS = {".gz", ".zst", ".bz2"}


class InputFormat(StrEnum):
    """What an input holds."""

    AUTO = "auto"
    """Told by the name; standard input is JSON lines."""
    JSONL = "jsonl"
    """One JSON object a line, with the text in one field."""
    TEXT = "text"
    """One document a file."""
    PARQUET = "parquet"
    """One document a row."""
    FASTA = "fasta"
    """One document a sequence, with its header as the field ``header``."""


_ENDINGS = {
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".json": InputFormat.JSONL,
    ".txt": InputFormat.TEXT,
    ".text": InputFormat.TEXT,
    ".parquet": InputFormat.PARQUET,
    ".fa": InputFormat.FASTA,
    ".fasta": InputFormat.FASTA,
    ".fna": InputFormat.FASTA,
    ".ffn": InputFormat.FASTA,
    ".faa": InputFormat.FASTA,
    ".frn": InputFormat.FASTA,
}


@dataclass(frozen=True)
class FileSource:
    """A file, or standard input if ``path`` is None."""

    name: str
    path: Path | None
    format: InputFormat
    text_field: str
    size: int
    fields: tuple[str, ...] = ()

    def spans(self, target):
        return [None]

    def batches(self, span=None) -> Iterator[Batch]:
        """All records of the file, in order."""
        if self.format is InputFormat.PARQUET and self.path is not None:
            return parquet_batches(self.path, self.text_field, self.fields)
        try:
            stream = ByteStream(self.path)
        except CorpusError as error:  # one file of many: the others are read all the same
            return iter([Batch(rejected=[Rejected(0, -1, str(error))], complete=False)])
        if self.format is InputFormat.TEXT:
            return text_batches(stream, self.fields)
        if self.format is InputFormat.FASTA:
            return fasta_batches(stream, self.fields)
        return jsonl_batches(stream, self.text_field, self.fields)


def find_sources(
    inputs: Sequence[str | Path],
    text_field: str = "text",
    input_format: InputFormat | str = InputFormat.AUTO,
    *,
    fields: Sequence[str] = (),
) -> tuple[list[Source], list[Path]]:
    """The inputs that paths stand for, and the files that were passed over.

    Args:
        inputs: files; folders, of which all files of known endings are taken, in the order of their paths; ``-``
            for standard input.
        text_field: the JSON field or Parquet column that holds the text.
        input_format: overrides what the names say; within folders it then takes every file.
        fields: names of further JSON fields or Parquet columns, given beside each text in ``Batch.fields``;
            FASTA gives ``header`` unasked.

    Returns:
        The sources, and the files of folders whose ending is not known.

    Raises:
        CorpusError: an input does not exist, or a folder holds nothing to read.
        UsageError: an input is given twice, or its format cannot be told.
    """
    chosen = choose(InputFormat, input_format)
    if isinstance(fields, str):
        raise UsageError(f"fields is the string {fields!r}: give a list of names")
    names = tuple(dict.fromkeys(fields))
    sources: list[Source] = []
    passed_over: list[Path] = []
    seen: set[str] = set()
    for given in inputs:
        if str(given) == "-":
            found = [_standard_input(chosen, text_field, names)]
        else:
            found, skipped = _of_path(Path(given), chosen, text_field, names)
            passed_over.extend(skipped)
        for source in found:
            key = str(source.path.resolve()) if source.path else "-"
            if key in seen:
                raise UsageError(f"{source.name} is given twice: its documents would be in the corpus twice")
            seen.add(key)
        sources.extend(found)
    if not sources:
        raise UsageError("there is no input: name files or folders, '-' for standard input, or use --sample")
    return sources, passed_over


def _standard_input(chosen: InputFormat, text_field: str, fields: tuple[str, ...]) -> FileSource:
    if chosen is InputFormat.PARQUET:
        raise UsageError("Parquet cannot be read from standard input: its index is at its end; name the file")
    kind = InputFormat.JSONL if chosen is InputFormat.AUTO else chosen
    return FileSource("<stdin>", None, kind, text_field, 0, _fields_of(kind, fields))


def _of_path(
    path: Path, chosen: InputFormat, text_field: str, fields: tuple[str, ...]
) -> tuple[list[FileSource], list[Path]]:
    if not path.exists():
        raise CorpusError(f"{path} does not exist: check the path")
    if not path.is_dir():
        kind = chosen if chosen is not InputFormat.AUTO else _format_of(path)
        if kind is None:
            raise UsageError(
                f"{path}: the ending does not say what it holds ({', '.join(_ENDINGS)}; all but Parquet also with .gz, .zst or .bz2): "
                "use --input-format"
            )
        return [_file(path, kind, text_field, fields)], []
    files, passed_over = _walk(path)
    kinds = [chosen if chosen is not InputFormat.AUTO else _format_of(file) for file in files]
    found = [
        _file(file, kind, text_field, fields)
        for file, kind in zip(files, kinds, strict=True)
        if kind is not None
    ]
    if not found:
        raise CorpusError(
            f"{path} holds no file ending in {', '.join(_ENDINGS)}: use --input-format to take all files"
        )
    return found, passed_over + [file for file, kind in zip(files, kinds, strict=True) if kind is None]


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder in the order of their paths; and what is not looked into: hidden files, links to folders,
    links that lead nowhere.
    """
    files: list[Path] = []
    passed_over: list[Path] = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_dir() and not path.is_symlink():
            continue
        (files if path.is_file() and not hidden else passed_over).append(path)
    return files, passed_over


def _file(path: Path, kind: InputFormat, text_field: str, fields: tuple[str, ...]) -> FileSource:
    if kind is InputFormat.PARQUET:
        check_column(path, text_field)
    size = path.stat().st_size if path.is_file() else 0
    return FileSource(str(path), path, kind, text_field, size, _fields_of(kind, fields))


def _fields_of(kind: InputFormat, asked: tuple[str, ...]) -> tuple[str, ...]:
    """FASTA gives its headers unasked."""
    return tuple(dict.fromkeys([HEADER, *asked])) if kind is InputFormat.FASTA else asked


def _format_of(path: Path) -> InputFormat | None:
    name = path.name.lower()
    ending = Path(name).suffix
    if ending in _ARCHIVE_ENDINGS:
        ending = Path(name[: -len(ending)]).suffix
    return _ENDINGS.get(ending)
