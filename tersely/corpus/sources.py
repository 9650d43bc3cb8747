"""From the paths a user gives to the inputs they stand for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

from tersely.corpus.fasta import HEADER, MAX_FASTA_BYTES, fasta_batches
from tersely.corpus.files import ByteStream, is_archive
from tersely.corpus.jsonl import jsonl_batches
from tersely.corpus.lines import one_before
from tersely.corpus.read import BOM, MAX_RECORD_BYTES, Batch, OnInvalid, Source, Span
from tersely.corpus.records import Records, TextRecords
from tersely.corpus.text import text_batches
from tersely.errors import CorpusError, UsageError, choose

_ARCHIVE_ENDINGS = {".gz", ".zst", ".bz2"}
_STANDARD_INPUT = ("-", "/dev/stdin")


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


_BY_BYTES = {InputFormat.JSONL, InputFormat.FASTA}
"""Formats of which a plain file can be read from any byte on."""


@dataclass(frozen=True)
class FileSource:
    """A file, or standard input if ``path`` is None; ``size`` is that of the file when it was listed, 0 if unknown."""

    name: str
    path: Path | None
    format: InputFormat
    size: int
    records: Records = field(default_factory=TextRecords)
    fields: tuple[str, ...] = ()
    on_invalid: OnInvalid = OnInvalid.QUARANTINE
    max_record_bytes: int = MAX_RECORD_BYTES

    def spans(self, target: int) -> list[Span | None]:
        """Parts of a plain file of JSON lines or FASTA, of about ``target`` bytes, or of a Parquet file; else one."""
        if target < 1:
            raise UsageError(f"a span of {target} bytes: allow at least 1")
        if self.path is None or not self.path.is_file():
            return [None]
        if self.format is InputFormat.PARQUET:
            from tersely.corpus.parquet import (
                parquet_spans,
            )  # late, as below: it loads much that others do not need

            return parquet_spans(self.path, target)
        try:
            if self.format not in _BY_BYTES or is_archive(self.path):
                return [None]
        except OSError:  # it says so when it is read
            return [None]
        target = max(target, len(BOM) + 1)  # so that the first has the mark and what is right behind it
        starts = range(0, self.size, target)
        return [Span(start, min(start + target, self.size)) for start in starts] or [None]

    def batches(self, span: Span | None = None) -> Iterator[Batch]:
        """All records of the span, or of the file, in order."""
        limits = _Limits(on_invalid=self.on_invalid, max_record_bytes=self.max_record_bytes)
        if self.format is InputFormat.PARQUET and self.path is not None:
            from tersely.corpus.parquet import parquet_batches

            return parquet_batches(self.path, self.records, self.fields, span=span, **limits)
        try:
            stream = ByteStream(self.path, one_before(span) if span else None, self.size)
        except CorpusError as error:  # one file of many: the others are read all the same
            return iter([Batch(fields={name: [] for name in self.fields}, fault=str(error))])
        if self.format is InputFormat.TEXT:
            return text_batches(stream, self.fields, **limits)
        if self.format is InputFormat.FASTA:
            return fasta_batches(stream, self.fields, span=span, **limits)
        return jsonl_batches(stream, self.records, self.fields, span=span, **limits)


class _Limits(TypedDict):
    on_invalid: OnInvalid
    max_record_bytes: int


def find_sources(
    inputs: Sequence[str | Path],
    text_field: str = "text",
    input_format: InputFormat | str = InputFormat.AUTO,
    *,
    fields: Sequence[str] = (),
    on_invalid: OnInvalid | str = OnInvalid.QUARANTINE,
    max_record_bytes: int | None = None,
    records: Records | None = None,
) -> tuple[list[Source], list[Path]]:
    """The inputs that paths stand for, and the files that were passed over.

    Args:
        inputs: files; folders, of which all files of known endings are taken, in the order of their paths; ``-``
            for standard input.
        text_field: the JSON field or Parquet column that holds the text.
        input_format: overrides what the names say; within folders it then takes every file.
        fields: names of further JSON fields or Parquet columns, given beside each text in ``Batch.fields``;
            FASTA gives ``header`` unasked.
        on_invalid: what becomes of a document that is not UTF-8.
        max_record_bytes: a longer line, value, text file or FASTA record is rejected, and bounds the memory of a
            reader; by default 256 MiB, of FASTA 1 GiB.
        records: what JSON lines and Parquet hold, if it is more than a text in ``text_field``.

    Returns:
        The sources, and the files of folders whose ending is not known.

    Raises:
        CorpusError: an input does not exist, or a folder holds nothing to read.
        UsageError: an input is given twice, its format cannot be told, or an argument is not allowed.
    """
    chosen = choose(InputFormat, input_format)
    if isinstance(fields, str):
        raise UsageError(f"fields is the string {fields!r}: give a list of names")
    if max_record_bytes is not None and max_record_bytes < 1:
        raise UsageError(f"max_record_bytes is {max_record_bytes}: allow at least 1")
    names, invalid = tuple(dict.fromkeys(fields)), choose(OnInvalid, on_invalid)

    def source(path: Path | None, kind: InputFormat) -> FileSource:
        if records is None and kind is InputFormat.PARQUET and path:
            from tersely.corpus.parquet import check_column

            check_column(path, text_field)
        if records is not None and kind not in (InputFormat.JSONL, InputFormat.PARQUET):
            raise UsageError(
                f"{path or 'standard input'} is {kind}: only JSON lines and Parquet hold such records"
            )
        size = path.stat().st_size if path and path.is_file() else 0
        limit = max_record_bytes or (MAX_FASTA_BYTES if kind is InputFormat.FASTA else MAX_RECORD_BYTES)
        name = str(path) if path else "<stdin>"
        made_of = records or TextRecords(text_field)
        return FileSource(name, path, kind, size, made_of, _fields_of(kind, names), invalid, limit)

    sources: list[Source] = []
    passed_over: list[Path] = []
    seen: set[str] = set()
    for given in inputs:
        if str(given) in _STANDARD_INPUT:
            found: list[tuple[Path | None, InputFormat]] = [(None, _format_of_standard_input(chosen))]
        else:
            found, skipped = _of_path(Path(given), chosen)
            passed_over.extend(skipped)
        for path, kind in found:
            key = str(path.resolve()) if path else "-"
            if key in seen:
                raise UsageError(f"{path or '-'} is given twice: its documents would be in the corpus twice")
            seen.add(key)
            sources.append(source(path, kind))
    if not sources:
        raise UsageError("there is no input: name files or folders, '-' for standard input, or use --sample")
    return sources, passed_over


def _format_of_standard_input(chosen: InputFormat) -> InputFormat:
    if chosen is InputFormat.PARQUET:
        raise UsageError("Parquet cannot be read from standard input: its index is at its end; name the file")
    return InputFormat.JSONL if chosen is InputFormat.AUTO else chosen


def _of_path(path: Path, chosen: InputFormat) -> tuple[list[tuple[Path | None, InputFormat]], list[Path]]:
    """The files that a path stands for, each with its format, and those that are passed over."""
    if not path.exists():
        raise CorpusError(f"{path} does not exist: check the path")
    if not path.is_dir():
        kind = chosen if chosen is not InputFormat.AUTO else _format_of(path)
        if kind is None:
            raise UsageError(
                f"{path}: the ending does not say what it holds ({', '.join(_ENDINGS)}; all but Parquet also with .gz, .zst or .bz2): "
                "use --input-format"
            )
        return [(path, kind)], []
    files, passed_over = _walk(path)
    found: list[tuple[Path | None, InputFormat]] = []
    for file in files:
        kind = chosen if chosen is not InputFormat.AUTO else _format_of(file)
        if kind is None:
            passed_over.append(file)
        else:
            found.append((file, kind))
    if not found:
        raise CorpusError(
            f"{path} holds no file ending in {', '.join(_ENDINGS)}: use --input-format to take all files"
        )
    return found, passed_over


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder in the order of their paths; and what is not looked into: hidden files, links to folders,
    links that lead nowhere, pipes.

    Raises:
        CorpusError: a folder in it cannot be listed, so that its files would be missing.
    """

    def refuse(error: OSError) -> None:
        raise CorpusError(f"{error.filename} cannot be listed: {error.strerror}") from error

    files: list[Path] = []
    passed_over: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for path in [Path(place, name) for name in [*names, *links]]:
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            (files if path.is_file() and not hidden else passed_over).append(path)
    return sorted(files), sorted(passed_over)


def _fields_of(kind: InputFormat, asked: tuple[str, ...]) -> tuple[str, ...]:
    """FASTA gives its headers unasked."""
    return tuple(dict.fromkeys([HEADER, *asked])) if kind is InputFormat.FASTA else asked


def _format_of(path: Path) -> InputFormat | None:
    name = path.name.lower()
    ending = Path(name).suffix
    if ending in _ARCHIVE_ENDINGS:
        ending = Path(name[: -len(ending)]).suffix
    return _ENDINGS.get(ending)
