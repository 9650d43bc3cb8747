"""``tersely swap``: another tokenizer for a pretrained model, from folder to folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tersely.cli.inputs import input_format_option, text_field_option
from tersely.cli.output import json_option, print_json, tell_fault, tell_passed_over


@click.command("swap", short_help="Give a pretrained model another tokenizer.")
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("tokenizer")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice(["fit", "mean", "hypernet", "omp", "focus"]),
    default="fit",
    show_default=True,
    help="How rows are made: fitted to the words of --corpus, the mean of a token's old pieces, by the network of "
    "--hypernet, as in --donor, or the mean of tokens that keep the same company in --corpus.",
)
@click.option(
    "--hypernet",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that tersely train hypernet made for this model; that of a decoder needs --corpus.",
)
@click.option(
    "--donor",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a model that was trained with TOKENIZER, for --method omp.",
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
@click.option(
    "--distill",
    type=click.IntRange(min=0),
    default=0,
    metavar="STEPS",
    help="Train the new rows for so many steps, on --corpus, until they read like the old ones. Wants a GPU for thousands.",
)
@click.option("--seed", type=int, default=0, help="Of the order of --distill.")
@click.option(
    "--no-measure",
    is_flag=True,
    help="Do not build the model: its files are copied with other rows, in the memory of one table. For large models.",
)
@text_field_option
@input_format_option
@json_option
def command(
    model: Path, tokenizer: str, out: Path, method: str, hypernet: Path | None, donor: Path | None,
    corpus: tuple[str, ...], special_tokens: str, distill: int, seed: int,
    no_measure: bool, text_field: str, input_format: str, as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL with the vocabulary of TOKENIZER into the folder OUT, and say how good it is.

    MODEL is a folder as save_pretrained writes it, with its tokenizer; TOKENIZER a tokenizer.json, or a folder with one:
    byte-level BPE, SentencePiece BPE or Unigram, WordPiece; or bytes, bytes:blt, ... for our byte tokenizer. Nothing is trained
    without --distill. OUT is read again and compared, ids and outputs, before it counts as done; beside the model it has
    swap_report.json, swap_report.html, and swap_tokens.jsonl with a line for each token. Figures by language go by the names of
    the files of --corpus, up to the first point.

    \b
    Examples:
      tersely swap minilm/ tokenizer.json out/ --corpus corpus/
      tersely swap llama/ gpt2/tokenizer.json out/ --method mean
      tersely swap minilm/ tokenizer.json out/ --method hypernet --hypernet network/
      tersely swap llama/ qwen/tokenizer.json out/ --method omp --donor qwen/
      tersely swap llama/ bytes out/ --corpus corpus/ --distill 2000
    """  # noqa: D301 -- click wants the character, not the two signs
    from transformers.utils import logging

    from tersely.cli.page import write_page
    from tersely.cli.swap_page import swap_page
    from tersely.corpus import find_sources
    from tersely.corpus.texts import texts_by_name

    if tokenizer.partition(":")[0] != "bytes" and not Path(tokenizer).exists():
        raise click.BadParameter(
            f"{tokenizer} does not exist: give a tokenizer.json, a folder with one, or bytes",
            param_hint="TOKENIZER",
        )
    if method in ("fit", "focus") and not corpus:
        raise click.UsageError(
            f"--method {method} learns from words: give --corpus FILE, or choose --method mean"
        )
    if (method == "hypernet") is not (hypernet is not None):
        raise click.UsageError("--method hypernet and --hypernet FOLDER belong together: give both or none")
    if (method == "omp") is not (donor is not None):
        raise click.UsageError("--method omp and --donor FOLDER belong together: give both or none")
    if no_measure and (method == "hypernet" or distill):
        raise click.UsageError("--hypernet and --distill need the model: leave --no-measure out")
    if distill and not corpus:
        raise click.UsageError("--distill learns from texts: give --corpus FILE")
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
            texts_by_name(sources, tell_fault) if corpus else None,
            special_tokens,
            hypernet=hypernet,
            donor=donor,
            distill=distill,
            seed=seed,
            measure=not no_measure,
            on_progress=on_progress,
        )
    write_page(out / "swap_report.html", swap_page(out.name, report))
    if as_json:
        print_json({"out": str(out), "seconds": round(time.perf_counter() - started, 3)} | report.to_dict())
    else:
        click.echo(report)


@contextmanager
def _shown_steps() -> Generator[Any]:
    """A line for the step at hand; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("loading") as status:
        yield status.update
