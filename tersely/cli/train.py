"""``tersely train``: a vocabulary or a code from a corpus, in bounded memory; or a hypernetwork for a model."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.inputs import input_format_option, text_field_option
from tersely.cli.output import (
    ByteCount,
    count,
    json_option,
    print_json,
    print_table,
    progress_bar,
    share,
    size,
)

if TYPE_CHECKING:
    from tersely.corpus import CodeTraining, TrainProgress, TrainReport

_REJECTED = 3
_SHOWN = 12
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30}


class _Bytes(click.ParamType):
    """An amount of memory such as 500MB or 4GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?|)B?", str(value).strip().upper())
        if not match or match.group(2) not in _UNITS:
            self.fail(f"{value!r} is no amount of memory: write it like 500MB or 4GiB", param, ctx)
        return int(float(match.group(1)) * _UNITS[match.group(2)])


@click.command(
    "train", short_help="Train a BPE, WordPiece or Unigram vocabulary, an equal-info code, or a hypernetwork."
)
@click.argument("kind", type=click.Choice(["bpe", "wordpiece", "unigram", "equal-info", "hypernet"]))
@click.argument("inputs", nargs=-1)
@click.option(
    "--vocab-size",
    type=click.IntRange(min=1),
    help="Ids, special tokens included; needed for bpe, wordpiece and unigram (equal-info has 2 to the power of --bits).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="tokenizer.json to make, a folder for equal-info and hypernet; it must not exist.",
)
@click.option(
    "--bits",
    type=int,
    default=16,
    show_default=True,
    help="Bits of an id, 9 to 24 (equal-info).",
)
@click.option(
    "--carry",
    type=click.IntRange(0, 2),
    default=0,
    show_default=True,
    help="Bytes before it that the meaning of an id may depend on (equal-info): more make longer tokens, which models learn worse.",
)
@click.option(
    "--model",
    type=click.Choice(["ngram", "mixing", "neural"]),
    default="ngram",
    show_default=True,
    help="Model of bytes that a code is built by (equal-info); mixing takes longer for longer tokens, neural is for a machine with "
    "a GPU.",
)
@click.option(
    "--sample-bytes",
    type=ByteCount(),
    default="32MB",
    show_default=True,
    help="Text that the model behind a code learns from, drawn from all inputs (equal-info).",
)
@click.option(
    "--superwords", is_flag=True, help="Also learn tokens that span up to four words (SuperBPE); bpe only."
)
@click.option(
    "--superword-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the vocabulary for superwords.",
)
@click.option(
    "--memory",
    type=_Bytes(),
    default="2GiB",
    show_default=True,
    help="What counting and training may take, besides about 400 MB for the program; the rest goes to disk.",
)
@click.option(
    "--special",
    "specials",
    multiple=True,
    metavar="TOKEN",
    help="A special token; may be repeated. [default: <|endoftext|>; BERT's five are always in wordpiece]",
)
@click.option(
    "--min-count",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Pairs that occur less often are not merged (bpe, wordpiece).",
)
@click.option(
    "--lowercase/--cased", default=True, show_default=True, help="Lower letters, strip accents (wordpiece)."
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Batches to train on (hypernet); or give --minutes."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Time to train for, all that comes before included (hypernet).",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Texts of a batch (hypernet).",
)
@click.option("--device", help="Where the model runs (hypernet). [default: a GPU if there is one]")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that make batches (hypernet). [default: one for each CPU but one, at most 14]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides all that is drawn (hypernet).")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out (hypernet).")
@click.option("--by", metavar="FIELD", help="Report also by this field of the records, such as a language.")
@text_field_option
@input_format_option
@click.option(
    "--sample", is_flag=True, help="Use the built-in corpus: Python's own source files and docstrings."
)
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Share of records that may be no documents before the exit code is 3.",
)
@json_option
def command(
    inputs: tuple[str, ...],
    out: Path,
    by: str | None,
    text_field: str,
    input_format: str,
    sample: bool,
    max_bad: float,
    as_json: bool,
    specials: tuple[str, ...],
    **options: Any,
) -> int:
    """Train a vocabulary or code of KIND on the documents of INPUTS and write it to --out.

    INPUTS are as in tersely prepare. Words are counted in a stream: what does not fit in --memory is put on disk
    beside --out until the end, so the size of the corpus does not matter. The file opens with tersely prepare
    --tokenizer, tokenizers and transformers. The report is measured on a sample of the corpus.

    A hypernet is a network that makes the rows of any new vocabulary for a model, for tersely swap --method hypernet. The first
    of INPUTS is the folder of the model, with its tokenizer; the others are text like that which the swapped models will see.
    --out gets a plot of the loss.

    An equal-info code is a folder, for tersely prepare --tokenizer too: each of its ids is a string of about --bits bits of
    information under a model of bytes, which learns from a sample of the corpus.

    \b
    Examples:
      tersely train bpe corpus/ --vocab-size 32000 --out tokenizer.json
      tersely train bpe corpus/ --vocab-size 64000 --superwords --by lang --out tokenizer.json
      zcat big.jsonl.gz | tersely train unigram - --vocab-size 32000 --out tokenizer.json
      tersely train equal-info corpus/ --bits 16 --carry 1 --out code/
      tersely train hypernet minilm/ corpus/ --minutes 10 --out hypernet/
    """  # noqa: D301 -- click wants the character, not the two signs
    from tersely.corpus import SampleSource, Settings, find_sources, train

    kind, of_code = (
        str(options["kind"]),
        {name: options.pop(name) for name in ("bits", "carry", "model", "sample_bytes")},
    )
    of_network = {
        name: options.pop(name)
        for name in ("steps", "minutes", "batch", "device", "workers", "seed", "resume")
    }
    _refuse_idle_options(kind, bool(options["superwords"]))
    if kind == "hypernet":
        from tersely.cli.hypernet import run_hypernet_training

        return run_hypernet_training(
            inputs, out, **of_network, text_field=text_field, input_format=input_format, as_json=as_json
        )
    if kind != "equal-info" and options["vocab_size"] is None:
        raise click.UsageError(f"{kind} needs --vocab-size: say how many ids there may be")
    settings = None if kind == "equal-info" else Settings(specials=specials or None, **options)
    if sample and inputs:
        raise click.UsageError(
            "--sample and INPUTS exclude each other: name files, or use the built-in corpus"
        )
    if sample:
        sources: list[Any] = [SampleSource()]
        passed_over: list[Path] = []
    else:
        sources, passed_over = find_sources(inputs, text_field, input_format, fields=(by,) if by else ())
    if passed_over:
        endings = ", ".join(sorted({path.suffix or path.name for path in passed_over})[:8])
        click.echo(f"Note: {len(passed_over)} files of other kinds were passed over ({endings}).", err=True)
    if settings is None:
        from tersely.cli.code import run_code_training

        return run_code_training(sources, out, **of_code, max_bad=max_bad, as_json=as_json)
    started = time.perf_counter()
    with _shown_progress() as on_progress:
        report = train(sources, out, settings, by=by, on_progress=on_progress)
    seconds = time.perf_counter() - started
    return _print(report, out, by, settings.vocab_size, seconds, max_bad, as_json)


_VOCABULARIES = ("bpe", "wordpiece", "unigram")
_USED_BY = {
    "vocab_size": _VOCABULARIES,
    "memory": _VOCABULARIES,
    "specials": _VOCABULARIES,
    "by": _VOCABULARIES,
    "bits": ("equal-info",),
    "carry": ("equal-info",),
    "model": ("equal-info",),
    "sample_bytes": ("equal-info",),
    "steps": ("hypernet",),
    "minutes": ("hypernet",),
    "batch": ("hypernet",),
    "device": ("hypernet",),
    "workers": ("hypernet",),
    "seed": ("hypernet",),
    "resume": ("hypernet",),
    "sample": (*_VOCABULARIES, "equal-info"),
    "max_bad": (*_VOCABULARIES, "equal-info"),
    "min_count": ("bpe", "wordpiece"),
    "lowercase": ("wordpiece",),
    "superwords": ("bpe",),
    "superword_share": ("bpe",),
}


def _refuse_idle_options(kind: str, superwords: bool) -> None:
    """An option that would do nothing is a misunderstanding: better said than passed over."""
    context = click.get_current_context()
    for name, kinds in _USED_BY.items():
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        option = {"lowercase": "--lowercase/--cased", "specials": "--special"}.get(
            name, "--" + name.replace("_", "-")
        )
        if given and kind not in kinds:
            raise click.UsageError(f"{option} is for {_listed(kinds)}, not for {kind}: leave it out")
        if given and name == "superword_share" and not superwords:
            raise click.UsageError(f"{option} is the share of --superwords: give both or none")


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _print(
    report: TrainReport,
    out: Path,
    by: str | None,
    asked: int,
    seconds: float,
    max_bad: float,
    as_json: bool,
) -> int:
    from dataclasses import asdict

    if as_json:
        figures = asdict(report)
        figures |= figures.pop("measures")
        figures["by"] = {"field": by, "values": figures.pop("values")} if by else None
        print_json({"out": str(out), "seconds": round(seconds, 3)} | figures)
    else:
        print_table(f"Trained {out}", _summary(report, seconds))
        _print_shares("Bytes per token by source", report.measures.sources)
        if by:
            _print_shares(f"Bytes per token by {by}", report.measures.values)
        _print_tokens("Longest tokens", report.measures.longest)
        _print_tokens("Tokens that the sample does not use", report.measures.unused_examples)
    if report.vocab_size < asked:
        click.echo(f"Note: the corpus is too small for {count(asked)} ids, so there are fewer.", err=True)
    tell_rejected(report)
    if not report.documents:
        click.echo("Warning: there were no documents; the vocabulary is the alphabet alone", err=True)
    return exit_code(report, max_bad)


def tell_rejected(report: TrainReport | CodeTraining) -> None:
    """Says on stderr what was no document."""
    for reason in report.reasons:
        click.echo(f"Not a document: {reason}", err=True)
    if report.rejected > len(report.reasons):
        click.echo(f"... and {count(report.rejected - len(report.reasons))} more records", err=True)
    for input_and_reason in report.broken_off:
        click.echo(f"Broke off, so that only what came before was counted: {input_and_reason}", err=True)


def exit_code(report: TrainReport | CodeTraining, max_bad: float) -> int:
    """3 if too much was no document."""
    return _REJECTED if report.rejected > max_bad * report.records or report.broken_off else 0


def _summary(report: TrainReport, seconds: float) -> list[tuple[str, str]]:
    measures = report.measures
    return [
        ("vocabulary", count(report.vocab_size)),
        ("documents", count(report.documents)),
        ("records that are none", count(report.rejected)),
        ("bytes", count(measures.bytes)),
        ("words", count(report.words)),
        ("different words", count(report.unique_words) + (" (on disk)" if report.spilled else "")),
        ("dropped as rarest", f"{count(report.dropped_words)} ({share(report.dropped_share)} of all words)"),
        ("bytes per token", f"{measures.bytes_per_token:.3f}"),
        ("measured on", size(measures.sampled_bytes)),
        ("unused tokens", count(measures.unused)),
        ("unknown tokens", share(measures.unknown_share)),
        ("seconds", f"{seconds:.2f}"),
    ]


def _print_shares(title: str, shares: list[Any]) -> None:
    from tersely.corpus.read import visible

    rows = [
        (visible(one.name) or "(none)", f"{one.bytes_per_token:.3f}  of {size(one.bytes)}") for one in shares
    ]
    if len(rows) > _SHOWN:
        rows = rows[:_SHOWN] + [("...", f"{count(len(rows) - _SHOWN)} more: see --json")]
    if rows:
        print_table(title, rows)


def _print_tokens(title: str, tokens: list[str]) -> None:
    rows = [(str(len(token)), ascii(token)[:80]) for token in tokens[:_SHOWN]]
    if rows:
        print_table(f"{title} (characters, text)", rows)


@contextmanager
def _shown_progress() -> Generator[Any]:
    """Two bars, one after the other; None, which costs nothing, where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    with progress_bar("counting") as reading, progress_bar("merging", "merges") as merging:
        bars = {"counting": reading, "merging": merging}
        tasks = {"counting": reading.add_task("", total=None, note="")}

        def show(now: TrainProgress) -> None:
            if now.stage not in tasks:
                tasks[now.stage] = bars[now.stage].add_task("", total=None, note="")
            bars[now.stage].update(tasks[now.stage], completed=now.done, total=now.total or None)

        yield show
