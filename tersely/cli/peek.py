"""``tersely peek``: the rows of a prepared folder as text, with their boundaries and what in them is trained on."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.output import count, json_option, print_json
from tersely.errors import UsageError

if TYPE_CHECKING:
    from tersely.ragged import Ragged
    from tersely.shards import ShardFolder
    from tersely.tokenize import Tokenizer

_SHOWN = 400
"""Characters of a piece that are printed, half from its start and half from its end."""


@click.command("peek", short_help="Show rows of a prepared folder as text.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--row", type=int, default=0, show_default=True, help="Row to show; -1 is the last one.")
@click.option("--full", is_flag=True, help="Print all of every piece, not its start and end.")
@json_option
def command(folder: Path, row: int, full: bool, as_json: bool) -> int:
    """Show a row of FOLDER as text: its pieces, the documents and sources they are from, and where in them they start.

    Where the folder has labels, text that is not trained on is dim on a terminal, and in [[ ]] elsewhere.
    """
    from tersely.load import load_tokenizer
    from tersely.shards import ShardFolder

    opened = ShardFolder(folder)
    rows = opened.manifest.rows
    if not -rows <= row < rows:
        raise UsageError(f"{folder} has no row {row}: it has {count(rows)}, numbered from 0")
    row %= rows
    pieces = _pieces(opened, row, load_tokenizer(folder / "tokenizer"))
    capacity = opened.manifest.packing.capacity
    if as_json:
        for piece in pieces:
            piece.pop("stretches")
        print_json({"row": row, "rows": rows, "capacity": capacity, "pieces": pieces})
        return 0
    filled = sum(piece["length"] for piece in pieces)
    of = f" of {count(capacity)}" if capacity else ""
    click.echo(f"Row {count(row)} of {count(rows)}: {count(filled)}{of} tokens, {len(pieces)} pieces")
    for piece in pieces:
        _print_piece(piece, full)
    return 0


def _pieces(folder: ShardFolder, row: int, tok: Tokenizer) -> list[dict[str, Any]]:
    """The pieces of a row, ready for JSON but for ``stretches``: texts, and whether each is trained on."""
    stored = folder.row(row)
    texts = _texts(tok, stored.input_ids)
    pieces: list[dict[str, Any]] = []
    for number, (place, text) in enumerate(zip(stored.places, texts, strict=True)):
        piece = asdict(place) | {"fields": folder.fields_of(place.document), "text": text}
        start, stop = stored.input_ids.offsets[number : number + 2].tolist()
        piece["stretches"] = [(text, True)]
        if stored.labels is not None:
            ranges = _trained(stored.labels[start:stop])
            piece["trained"] = ranges
            piece["stretches"] = _stretches(tok, stored.input_ids[number], ranges)
        if stored.word_lengths is not None:
            ends = stored.word_lengths.cumsum()
            piece["word_lengths"] = stored.word_lengths[(ends > start) & (ends <= stop)].tolist()
        pieces.append(piece)
    return pieces


def _texts(tok: Tokenizer, ids: Ragged) -> list[str]:
    return [text.decode("utf-8", "replace") for text in tok.decode(ids)]


def _trained(labels: Any) -> list[list[int]]:
    """The tokens that are trained on, as half-open ranges."""
    import numpy as np

    from tersely.shards import IGNORED

    edges = np.flatnonzero(np.diff(labels != IGNORED, prepend=False, append=False))
    return edges.reshape(-1, 2).tolist()


def _stretches(tok: Tokenizer, ids: Any, ranges: list[list[int]]) -> list[tuple[str, bool]]:
    """The text of a piece in turns: not trained on, trained on, not trained on, ..."""
    from tersely.ragged import Ragged

    edges = [0, *(edge for pair in ranges for edge in pair), len(ids)]
    return [(text, bool(turn % 2)) for turn, text in enumerate(_texts(tok, Ragged(ids, edges)))]


def _print_piece(piece: dict[str, Any], full: bool) -> None:
    from tersely.corpus.read import visible

    end = piece["start"] + piece["length"]
    notes = [
        f"document {piece['document']}, tokens {piece['start']} to {end}, from {visible(piece['source'])}"
    ]
    if "trained" in piece:
        notes.append(f"{count(sum(stop - start for start, stop in piece['trained']))} trained on")
    if "word_lengths" in piece:
        notes.append(f"{count(len(piece['word_lengths']))} words")
    notes += [f"{name}: {visible(value)}" for name, value in piece["fields"].items()]
    click.echo(f"\n--- {', '.join(notes)}")
    click.echo("".join(_marked(*stretch) for stretch in _ends(piece["stretches"], full)))


def _ends(stretches: list[tuple[str, bool]], full: bool) -> list[tuple[str, bool]]:
    """The first and the last characters of these texts, with a note on what is left out between them."""
    size = sum(len(text) for text, _ in stretches)
    if full or size <= _SHOWN:
        return stretches
    head: list[tuple[str, bool]] = []
    tail: list[tuple[str, bool]] = []
    before = 0
    for text, trained in stretches:
        first = max(_SHOWN // 2 - before, 0)
        last = max(size - _SHOWN // 2 - before, 0)
        head.append((text[:first], trained))
        tail.append((text[last:], trained))
        before += len(text)
    return [*head, (f"\n[... {count(size - _SHOWN)} characters ...]\n", True), *tail]


def _marked(text: str, trained: bool) -> str:
    """Text as a terminal may have it, with a mark if it is not trained on."""
    shown = _lines(text)
    if trained or not text:
        return shown
    return click.style(shown, dim=True) if sys.stdout.isatty() else f"[[{shown}]]"


def _lines(text: str) -> str:
    """Text with its lines and tabs, and all other control characters spelled out."""
    from tersely.corpus.read import visible

    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))
