"""``tersely peek``: the rows of a prepared folder as text, with their boundaries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tersely.cli.output import count, json_option, print_json
from tersely.errors import UsageError

_SHOWN = 400
"""Characters of a piece that are printed, half from its start and half from its end."""


@click.command("peek", short_help="Show rows of a prepared folder as text.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--row", type=int, default=0, show_default=True, help="Row to show; -1 is the last one.")
@click.option("--full", is_flag=True, help="Print all of every piece, not its start and end.")
@json_option
def command(folder: Path, row: int, full: bool, as_json: bool) -> int:
    """Show a row of FOLDER as text: its pieces, the documents they are from, and where in them they start."""
    from tersely.load import load_tokenizer
    from tersely.shards import ShardFolder

    opened = ShardFolder(folder)
    rows = opened.manifest.rows
    if not -rows <= row < rows:
        raise UsageError(f"{folder} has no row {row}: it has {count(rows)}, numbered from 0")
    row %= rows
    tok = load_tokenizer(folder / "tokenizer")
    pieces = opened.row(row)
    texts = [text.decode("utf-8", "replace") for text in tok.decode(pieces.input_ids)]
    shown = [
        asdict(piece) | {"fields": opened.fields_of(piece.document), "text": text}
        for piece, text in zip(pieces.places, texts, strict=True)
    ]
    capacity = opened.manifest.packing.capacity
    if as_json:
        print_json({"row": row, "rows": rows, "capacity": capacity, "pieces": shown})
        return 0
    filled = sum(piece.length for piece in pieces.places)
    of = f" of {count(capacity)}" if capacity else ""
    click.echo(f"Row {count(row)} of {count(rows)}: {count(filled)}{of} tokens, {len(shown)} pieces")
    for piece in shown:
        _print_piece(piece, full)
    return 0


def _print_piece(piece: dict[str, Any], full: bool) -> None:
    from tersely.corpus.read import visible

    end = piece["start"] + piece["length"]
    fields = "".join(f", {name}: {visible(value)}" for name, value in piece["fields"].items())
    click.echo(f"\n--- document {piece['document']}, tokens {piece['start']} to {end}{fields}")
    text = piece["text"]
    if not full and len(text) > _SHOWN:
        left_out = len(text) - _SHOWN
        click.echo(_lines(text[: _SHOWN // 2]))
        click.echo(f"[... {count(left_out)} characters ...]")
        text = text[-_SHOWN // 2 :]
    click.echo(_lines(text))


def _lines(text: str) -> str:
    """Text with its lines and tabs, and all other control characters spelled out."""
    from tersely.corpus.read import visible

    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))
