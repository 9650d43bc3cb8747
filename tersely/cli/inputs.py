"""The options with which every command that reads inputs says what they hold."""

from __future__ import annotations

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
