"""``tersely inspect``: what is in a prepared folder; with ``--compare``, what tokenizers make of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tersely.cli.inputs import input_format_option, text_field_option
from tersely.cli.output import ByteCount, json_option


@click.command("inspect", short_help="Show what a prepared folder holds, or compare tokenizers.")
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--compare",
    "specs",
    metavar="SPEC,SPEC,...",
    help="Compare these tokenizers (named as for prepare) on INPUTS, which are then those of prepare.",
)
@click.option(
    "--by", metavar="FIELD", help="Figures also by this JSON field or Parquet column, such as lang."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all of it, with charts, as one HTML page that needs no network.",
)
@click.option(
    "--pack",
    "capacity",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    help="Tokens in a packed row, for --compare.",
)
@click.option(
    "--sample-bytes",
    type=ByteCount(),
    default="16MB",
    show_default=True,
    help="Text that --compare measures, drawn from all inputs and groups.",
)
@click.option(
    "--layers", type=click.IntRange(min=1), default=12, show_default=True, help="Of the model to be trained."
)
@click.option(
    "--hidden", type=click.IntRange(min=1), default=768, show_default=True, help="Width of that model."
)
@text_field_option
@input_format_option
@json_option
@click.pass_context
def command(
    context: click.Context, inputs: tuple[str, ...], specs: str | None, as_json: bool, **options: Any
) -> int:
    """Show what a prepared folder holds: counts, tokenizer, how long its documents are, what each source gave, what is in
    quarantine, and what other capacities and strategies would make of the same documents.

    With --compare, measure tokenizers on raw files instead: bytes per token, tokens per word, the rows they make and the FLOPs
    of training on them, over all, by input and by field. All options but --html and --json are of this.

    \b
    Examples:
      tersely inspect prepared/
      tersely inspect prepared/ --html page.html
      tersely inspect news.jsonl --compare bytes,gpt2/tokenizer.json --by lang --html page.html
    """  # noqa: D301 -- click wants the character, not the two signs
    if specs is not None:
        from tersely.cli.comparison import run_comparison

        return run_comparison(
            inputs, [spec.strip() for spec in specs.split(",") if spec.strip()], as_json=as_json, **options
        )
    if len(inputs) != 1:
        raise click.UsageError("inspect shows one prepared folder: name one, or use --compare on files")
    if foreign := _given(context) - {"inputs", "specs", "html", "as_json"}:
        names = [option.opts[0] for option in context.command.params if option.name in foreign]
        raise click.UsageError(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} of a comparison: name tokenizers with --compare"
        )
    from tersely.cli.inspection import run_inspection

    return run_inspection(Path(inputs[0]), html=options["html"], as_json=as_json)


def _given(context: click.Context) -> set[str]:
    """The names of what was given, and not left to its default."""
    return {name for name in context.params if context.get_parameter_source(name) != ParameterSource.DEFAULT}
