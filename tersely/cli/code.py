"""What ``tersely train equal-info`` and ``tersely inspect`` do with a code: build it, print its figures, write the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.output import count, print_json, print_table, share, shown_progress, size, tell_passed_over
from tersely.cli.page import check_page, write_page

if TYPE_CHECKING:
    from tersely.corpus import TrainProgress


def run_code_training(
    sources: Sequence[Any],
    out: Path,
    *,
    bits: int,
    carry: int,
    model: str,
    sample_bytes: int,
    max_bad: float,
    as_json: bool,
) -> int:
    """Builds a code and prints what came of it; the exit code."""
    from tersely.cli.train import exit_code, tell_rejected
    from tersely.corpus import train_code

    started = time.perf_counter()
    with shown_progress("training", "steps") as show:

        def on_progress(now: TrainProgress) -> None:
            if show:
                show(now.stage, now.done, now.total)

        made = train_code(
            sources,
            out,
            bits=bits,
            carry=carry,
            model=model,
            sample_bytes=sample_bytes,
            on_progress=on_progress,
        )
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"out": str(out), "seconds": round(seconds, 3)} | asdict(made))
    else:
        rows = [
            ("ids", count(1 << made.bits)),
            ("classes of bytes before", count(made.classes)),
            ("documents", count(made.documents)),
            ("records that are none", count(made.rejected)),
            ("bytes", count(made.bytes)),
            ("learned from", size(made.sampled_bytes)),
            ("bytes per token", f"{made.bytes_per_token:.3f}" if made.apart_bytes else "-"),
            ("measured on", f"{size(made.apart_bytes)} kept apart"),
            ("seconds", f"{seconds:.2f}"),
        ]
        print_table(f"Trained {out}", rows)
    tell_rejected(made)
    return exit_code(made, max_bad)


def run_code_inspection(
    folder: Path,
    held_out: Sequence[str],
    *,
    html: Path | None,
    sample_bytes: int,
    text_field: str,
    input_format: str,
    as_json: bool,
) -> int:
    """Measures a code on documents, prints, and writes ``html`` if it is named; the exit code."""
    from tersely.corpus import find_sources
    from tersely.corpus.inspection import code_page, inspect_code

    sources, passed_over = find_sources(held_out, text_field, input_format)
    check_page(html, [*(Path(source.name) for source in sources), *folder.iterdir()])
    tell_passed_over(passed_over)
    found = inspect_code(folder, sources, sample_bytes=sample_bytes)
    if html is not None:
        write_page(html, code_page(found))
    if as_json:
        print_json(found.to_dict())
        return 0
    code, on = found.tokenizer, found.report
    model = on.model_bits_per_byte
    rows = [
        ("bits of an id", count(code.bits)),
        ("bytes carried", count(code.carry)),
        ("classes of bytes before", count(len(code.classes))),
        ("fingerprint", code.fingerprint),
        ("measured on", f"{count(on.documents)} documents, {size(on.bytes)}"),
        ("bytes per token", f"{on.bytes_per_token:.3f}"),
        ("bits per byte", f"{on.bits_per_byte:.3f}"),
        ("by frequency of ids", f"{on.unigram_bits_per_byte:.3f}"),
        ("of the model itself", f"{model:.3f}" if model else "unknown: the model is not beside the code"),
        ("entropy of ids", f"{on.unigram_entropy:.3f} of {code.bits} bits"),
        ("live ids", f"{count(on.live_ids)}, and one to end a text"),
        ("used ids", count(on.used_ids)),
        (
            "changed by a byte in front",
            f"{on.changed_tokens:.1f} tokens of a document ({share(on.changed_share)})",
        ),
        ("documents lost", count(on.failures)),
    ]
    print_table(str(folder), rows)
    if html is not None:
        click.echo(f"\nThe page is {html}")
    return 4 if on.failures else 0
