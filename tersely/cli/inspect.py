"""``tersely inspect``: what is in a prepared folder, or in a code; with ``--compare``, what tokenizers make of files."""

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
    "--held-out",
    multiple=True,
    metavar="FILE",
    help="Documents to measure an equal-info code on, which it was not trained on; may be repeated.",
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
    help="Text that is measured, by --compare or of --held-out, drawn from all inputs and groups.",
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
    of training on them, over all, by input and by field. All options but --held-out, --html and --json are of this.

    An equal-info code is measured on the documents of --held-out: bytes per token, bits per byte beside those of its model,
    how evenly ids are used, what a byte put in front changes, and whether all comes back.

    \b
    Examples:
      tersely inspect prepared/
      tersely inspect prepared/ --html page.html
      tersely inspect code/ --held-out news.jsonl
      tersely inspect news.jsonl --compare bytes,gpt2/tokenizer.json --by lang --html page.html
    """  # noqa: D301 -- click wants the character, not the two signs
    held_out = options.pop("held_out")
    if specs is not None:
        if held_out:
            raise click.UsageError(
                "--held-out is for a code, and --compare takes its documents as INPUTS: leave one out"
            )
        from tersely.cli.comparison import run_comparison

        return run_comparison(
            inputs, [spec.strip() for spec in specs.split(",") if spec.strip()], as_json=as_json, **options
        )
    if len(inputs) == 1 and _is_code(Path(inputs[0])):
        return _inspect_code(context, Path(inputs[0]), held_out, as_json, options)
    if len(inputs) != 1:
        raise click.UsageError("inspect shows one prepared folder: name one, or use --compare on files")
    if held_out:
        raise click.UsageError(f"--held-out is for an equal-info code, and {inputs[0]} is none: leave it out")
    if foreign := _given(context) - {"inputs", "specs", "html", "as_json"}:
        names = [option.opts[0] for option in context.command.params if option.name in foreign]
        raise click.UsageError(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} of a comparison: name tokenizers with --compare"
        )
    from tersely.cli.inspection import run_inspection

    return run_inspection(Path(inputs[0]), html=options["html"], as_json=as_json)


def _is_code(folder: Path) -> bool:
    """Whether the folder is one of an equal-info code."""
    try:
        return b'"equal-info"' in (folder / "tersely_tokenizer.json").read_bytes()
    except OSError:
        return False


def _inspect_code(
    context: click.Context, folder: Path, held_out: tuple[str, ...], as_json: bool, options: dict[str, Any]
) -> int:
    from tersely.cli.code import run_code_inspection

    if not held_out:
        raise click.UsageError(
            f"{folder} is a code: name documents to measure it on, which it was not trained on, with --held-out"
        )
    used = {name: options[name] for name in ("html", "sample_bytes", "text_field", "input_format")}
    if foreign := _given(context) - used.keys() - {"inputs", "held_out", "as_json"}:
        names = ", ".join(option.opts[0] for option in context.command.params if option.name in foreign)
        raise click.UsageError(f"{names} is of a comparison: leave it out, or name tokenizers with --compare")
    return run_code_inspection(folder, held_out, as_json=as_json, **used)


def _given(context: click.Context) -> set[str]:
    """The names of what was given, and not left to its default."""
    return {name for name in context.params if context.get_parameter_source(name) != ParameterSource.DEFAULT}
