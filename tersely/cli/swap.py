"""``tersely swap``: another tokenizer for a pretrained model, from folder to folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.inputs import input_format_option, text_field_option
from tersely.cli.output import count, json_option, print_json, tell_passed_over

if TYPE_CHECKING:
    from tersely.corpus.sources import Source


@click.command("swap", short_help="Give a pretrained model another tokenizer.")
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("tokenizer", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice(["fit", "mean", "hypernet"]),
    default="fit",
    show_default=True,
    help="How rows are made: least squares on the words of --corpus, the mean of a token's old pieces, or by the network of "
    "--hypernet.",
)
@click.option(
    "--hypernet",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that tersely train hypernet made for this model.",
)
@click.option(
    "--corpus",
    multiple=True,
    metavar="FILE",
    help="Text like that which the model will see, named as for prepare; may be repeated. A tenth is held out to measure on.",
)
@click.option(
    "--special-tokens",
    type=click.Choice(["keep", "map"]),
    default="keep",
    show_default=True,
    help="Keep those of the model and its chat template, or map them to those of the new tokenizer.",
)
@text_field_option
@input_format_option
@json_option
def command(
    model: Path, tokenizer: Path, out: Path, method: str, hypernet: Path | None, corpus: tuple[str, ...], special_tokens: str,
    text_field: str, input_format: str, as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL with the vocabulary of TOKENIZER into the folder OUT, and say how good it is.

    MODEL is a folder as save_pretrained writes it, with its tokenizer; TOKENIZER a tokenizer.json, or a folder with one:
    byte-level BPE, SentencePiece BPE or Unigram, WordPiece. Nothing is trained. OUT is read again and compared, ids and outputs,
    before it counts as done.

    \b
    Examples:
      tersely swap minilm/ tokenizer.json out/ --corpus corpus/
      tersely swap llama/ gpt2/tokenizer.json out/ --method mean
      tersely swap minilm/ tokenizer.json out/ --method hypernet --hypernet network/
    """  # noqa: D301 -- click wants the character, not the two signs
    from transformers.utils import logging

    from tersely.corpus import find_sources

    if method == "fit" and not corpus:
        raise click.UsageError("--method fit learns from words: give --corpus FILE, or choose --method mean")
    if (method == "hypernet") is not (hypernet is not None):
        raise click.UsageError("--method hypernet and --hypernet FOLDER belong together: give both or none")
    sources, passed_over = find_sources(corpus, text_field, input_format) if corpus else ([], [])
    tell_passed_over(passed_over)
    from tersely.embeddings import swap_folder

    logging.disable_progress_bar()
    started = time.perf_counter()
    with _shown_steps() as on_progress:
        report = swap_folder(
            model,
            tokenizer,
            out,
            method,
            texts_of(sources) if corpus else None,
            special_tokens,
            hypernet=hypernet,
            on_progress=on_progress,
        )
    if as_json:
        print_json({"out": str(out), "seconds": round(time.perf_counter() - started, 3)} | report.to_dict())
    else:
        click.echo(report)


def texts_of(sources: list[Source]) -> Iterator[str]:
    """The documents of all sources; what is none is counted and told on stderr."""
    rejected = 0
    for source in sources:
        for batch in source.batches():
            rejected += len(batch.rejected)
            if batch.fault:
                click.echo(
                    f"Broke off, so only what came before was read: {source.name}: {batch.fault}", err=True
                )
            yield from batch.strings
    if rejected:
        click.echo(f"Note: {count(rejected)} records are no documents and were passed over.", err=True)


@contextmanager
def _shown_steps() -> Generator[Any]:
    """A line for the step at hand; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("loading") as status:
        yield status.update
