"""The options with which every command that reads inputs says what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

text_field_option = click.option(
    "--text-field", default="text", show_default=True, help="JSON field or Parquet column with the text."
)
input_format_option = click.option(
    "--input-format",
    type=click.Choice(["auto", "jsonl", "text", "parquet", "fasta"]),
    default="auto",
    show_default=True,
    help="What the inputs hold, where their names do not say.",
)


def last_change(inputs: Sequence[str]) -> datetime:
    """When the newest of the files was changed: the date in a corpus made of them, whenever it is made."""
    paths = [path for given in inputs for path in (Path(given), *Path(given).rglob("*")) if path.is_file()]
    return datetime.fromtimestamp(max((path.stat().st_mtime for path in paths), default=0), UTC)
