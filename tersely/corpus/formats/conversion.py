"""Writes a finished prepared folder in other layouts, each in a folder of its own, and checks them later.

    prepared/megatron/tersely.json     of which corpus, whether finished, sizes and checksums of the files beside it

``tersely.json`` is written before the first file, as unfinished, and again after the last: a conversion that was stopped
is known by it and done again, a finished one is left alone, and a folder of something else is never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tersely.corpus.formats.litdata import write_litdata
from tersely.corpus.formats.mds import write_mds
from tersely.corpus.formats.megatron import write_megatron
from tersely.corpus.formats.memmap import write_memmap
from tersely.corpus.formats.output import Output
from tersely.errors import CorpusError, ShardError, UsageError, choose
from tersely.shards import Manifest, ShardFolder
from tersely.shards.atomic import TEMPORARY, replace_file
from tersely.shards.disk import room_told
from tersely.shards.writer import file_checksum

NOTE_NAME = "tersely.json"
_KIND, _VERSION = "tersely-conversion", 1
_SAFE_FILE = re.compile(r"([A-Za-z0-9_-]{1,64}/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class Format(StrEnum):
    """A layout that other loaders read; README.md has the bytes of each."""

    MEGATRON = "megatron"
    """``tokens.bin`` and ``tokens.idx``, a sequence for each document: Megatron-LM, NeMo, GPT-NeoX."""
    MEMMAP = "memmap"
    """``tokens.bin`` as it is in memory, ``offsets.npy`` of the documents: nanoGPT, OLMo-core, torchtitan."""
    MDS = "mds"
    """``shard.00000.mds``, ..., a sample for each packed row: mosaicml-streaming."""
    LITDATA = "litdata"
    """``chunk-0-0.bin``, ..., an item for each document: LitData's TokensLoader, LitGPT."""


_WRITERS: dict[Format, Callable[[ShardFolder, Output], None]] = {
    Format.MEGATRON: write_megatron,
    Format.MEMMAP: write_memmap,
    Format.MDS: write_mds,
    Format.LITDATA: write_litdata,
}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A folder in another layout: how many files it has and their bytes; ``written`` is False if it was there already."""

    format: Format
    folder: Path
    files: int
    size: int
    written: bool


@dataclass(frozen=True)
class ConvertProgress:
    """How far a conversion is; labels count as tokens where they are written apart from the ids."""

    format: Format
    tokens: int
    tokens_total: int


def convert(
    folder: str | Path,
    formats: Sequence[Format | str],
    out: str | Path | None = None,
    on_progress: Callable[[ConvertProgress], None] | None = None,
) -> list[Conversion]:
    """Writes a prepared folder in other layouts. The same folder gives the same bytes.

    Memory is bounded by a shard, whatever the corpus. Nothing is taken out of the rows or put into them: tokens that
    were truncated or dropped when the folder was prepared are in no format, and the ids that open and close documents
    are in all. A finished conversion is left alone if its files are there and have their sizes; whether their bytes are
    those that were written is for ``verify_conversions``.

    Args:
        folder: a finished prepared folder.
        formats: which layouts.
        out: where the folders ``megatron``, ``memmap``, ... go; by default into ``folder``.
        on_progress: called after each block that was written.

    Raises:
        CorpusError: the folder of a format holds something else, is in use, or cannot be made; there is no room for it.
        ShardError: ``folder`` is unfinished or damaged, or what a conversion noted of itself is.
        UsageError: a format is not known, or cannot hold this corpus.
    """
    chosen = list(dict.fromkeys(choose(Format, name) for name in formats))
    if not chosen:
        raise UsageError("no format is named: choose some of " + ", ".join(Format))
    opened = ShardFolder(folder)
    return [_convert(opened, name, Path(out or folder) / name, on_progress) for name in chosen]


def verify_conversions(folder: str | Path) -> Iterator[tuple[str, str | None]]:
    """Checks size and checksum of each file of each layout in ``folder``: (what was checked, what is wrong or None).

    A layout that is there without ``tersely.json`` is not one of ours and is passed over. If ``folder`` is itself a
    prepared folder, the conversions must be of it as it is now.
    """
    folder = Path(folder)
    corpus = _checksum(Manifest.load(folder)) if (folder / "manifest.json").exists() else None
    for name in Format:
        if (folder / name / NOTE_NAME).exists():
            yield from _verify_one(folder / name, corpus)


def _convert(
    opened: ShardFolder, name: Format, out: Path, on_progress: Callable[[ConvertProgress], None] | None
) -> Conversion:
    corpus = _checksum(opened.manifest)
    with room_told(out), _claimed(out):
        files = _finished(out, name, corpus)
        written = files is None
        if files is None:
            _write_note(out, name, corpus, None)
            output = Output(out, _advance(opened, name, on_progress))
            try:
                _WRITERS[name](opened, output)
            except UsageError:
                if not output.files:  # there is nothing to go on with
                    (out / NOTE_NAME).unlink()
                raise
            files = output.files
            _write_note(out, name, corpus, files)
    size = sum(file["size"] for file in files.values())
    return Conversion(format=name, folder=out, files=len(files), size=size, written=written)


def _advance(
    opened: ShardFolder, name: Format, on_progress: Callable[[ConvertProgress], None] | None
) -> Callable[[int], None]:
    passes = 2 if "labels" in opened.manifest.columns and name != Format.MDS else 1
    total = opened.manifest.tokens * passes
    done = 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        if on_progress is not None:
            on_progress(ConvertProgress(name, done, total))

    return advance


@contextmanager
def _claimed(out: Path) -> Generator[None]:
    """Makes the folder, if need be, and holds it for this process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{out} cannot be made: {error.strerror}") from error
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CorpusError(
                f"{out} is being written by another process: wait for it, or choose another --out"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _finished(out: Path, name: Format, corpus: str) -> dict[str, Any] | None:
    """The files of a finished conversion of the same corpus; None if it is still to be made.

    Raises:
        CorpusError: the folder holds something else, or not all of what it held.
        ShardError: ``tersely.json`` is damaged.
    """
    note = _read_note(out)
    if note is None and all(path.name.startswith(TEMPORARY) for path in out.iterdir()):
        _sweep(out)
        return None
    if note is None or note["to"] != name or note["corpus"] != corpus:
        held = "other files" if note is None else "a conversion of another corpus"
        raise CorpusError(
            f"{out} is not empty (it holds {held}): choose another --out, or remove that folder first"
        )
    if note["files"] is None:
        _sweep(out)
        return None
    for file, known in note["files"].items():
        path = out / file
        if not path.is_file() or path.stat().st_size != known["size"]:
            raise CorpusError(f"{path} is missing or has another size: remove {out}, and convert again")
    return note["files"]


def _sweep(out: Path) -> None:
    """Removes the unfinished files of a conversion that was killed."""
    for path in [*out.glob(f"{TEMPORARY}*"), *out.glob(f"*/{TEMPORARY}*")]:
        path.unlink()


def _write_note(out: Path, name: Format, corpus: str, files: dict[str, Any] | None) -> None:
    note = {"format": _KIND, "version": _VERSION, "to": name, "corpus": corpus, "files": files}
    replace_file(out / NOTE_NAME, json.dumps(note, indent=2).encode() + b"\n")


def _read_note(out: Path) -> dict[str, Any] | None:
    """What ``tersely.json`` says, if it is there.

    Raises:
        ShardError: it is not as ``_write_note`` writes it.
    """
    path = out / NOTE_NAME
    if not path.exists():
        return None
    try:
        note = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        note = None
    if not _sound(note):
        raise ShardError(
            f"{path} is damaged, or of another version of tersely: remove {out}, and convert again"
        )
    return note


def _sound(note: Any) -> bool:
    if not isinstance(note, dict) or (note.get("format"), note.get("version")) != (_KIND, _VERSION):
        return False
    files = note.get("files", ())
    return (
        isinstance(note.get("to"), str)
        and isinstance(note.get("corpus"), str)
        and (files is None or isinstance(files, dict))
        and all(_SAFE_FILE.fullmatch(name) and _sound_file(known) for name, known in (files or {}).items())
    )


def _sound_file(known: Any) -> bool:
    return (
        isinstance(known, dict)
        and isinstance(known.get("size"), int)
        and isinstance(known.get("xxh3_128"), str)
    )


def _verify_one(out: Path, corpus: str | None) -> Iterator[tuple[str, str | None]]:
    try:
        note = _read_note(out)
    except ShardError as error:
        yield out.name, str(error)
        return
    if note is None or note["files"] is None:
        yield out.name, f"{out} is an unfinished conversion: convert again"
        return
    if corpus not in (None, note["corpus"]):
        yield (
            out.name,
            f"{out} was made of another corpus than {out.parent} is now: remove it, and convert again",
        )
        return
    for file, known in note["files"].items():
        path = out / file
        intact = path.is_file() and not path.is_symlink() and file_checksum(path) == known["xxh3_128"]
        fault = f"{path} is missing or was changed: remove {out}, and convert again"
        yield f"{out.name}/{file}", None if intact else fault


def _checksum(manifest: Manifest) -> str:
    return manifest.to_dict()["checksum"]
