"""What ``tersely prepare`` says: the table or object at its end, its verdict, and the estimate of a dry run."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.output import count, print_json, print_table, share, size
from tersely.errors import UsageError

if TYPE_CHECKING:
    from tersely.corpus import Source
    from tersely.shards import Manifest

_FAILED, _QUARANTINED = 1, 3


def tell_share(out: Path, done: tuple[int, int], as_json: bool) -> int:
    """Says that this share of a job is done and others are not; the exit code."""
    if as_json:
        print_json({"out": str(out), "share": list(done), "finished": False})
    else:
        click.echo(f"Share {done[0]} of {done[1]} is done; {out} is finished when the others are")
    return 0


def tell_result(manifest: Manifest, out: Path, speed: dict[str, float], as_json: bool) -> None:
    """Prints what a finished job made."""
    if as_json:
        print_json({"out": str(out), "broken_off": _broken(manifest)} | speed | manifest.to_dict())
    else:
        print_table(f"Prepared {out}", _summary(manifest, speed))


def verdict(manifest: Manifest, out: Path, salvage: bool, max_bad: float, fail_empty: bool) -> int:
    """The exit code, and on stderr the reasons why it may not be 0."""
    if manifest.quarantined:
        click.echo(
            f"{count(manifest.quarantined)} records were quarantined: see {out / 'quarantine.jsonl'}",
            err=True,
        )
    if not manifest.tokenizer.lossless:
        click.echo(
            f"Note: {manifest.tokenizer.spec} does not give all text back as it was (it lowers, normalises, or lacks letters)",
            err=True,
        )
    broken = _broken(manifest)
    for name in broken:
        kept = (
            "only what came before is" if salvage else "nothing of it is (--salvage keeps what came before)"
        )
        click.echo(f"{name} broke off before its end: {kept} in {out}", err=True)
    if not manifest.documents:
        click.echo(f"Warning: there were no documents; {out} is a valid, empty corpus", err=True)
    if broken and not salvage:
        return _FAILED
    if manifest.quarantined > max_bad * manifest.records_in or (fail_empty and not manifest.documents):
        return _QUARANTINED
    return 0


def _broken(manifest: Manifest) -> list[str]:
    return [source.name for source in manifest.sources if not source.complete]


def _summary(manifest: Manifest, speed: dict[str, float]) -> list[tuple[str, str]]:
    tokenizer = manifest.tokenizer
    return [
        ("documents", count(manifest.documents)),
        ("bytes", count(manifest.bytes)),
        ("tokens", f"{count(manifest.tokens)} ({manifest.dtype}, vocabulary {count(tokenizer.vocab_size)})"),
        ("bytes per token", f"{manifest.bytes / manifest.tokens:.3f}" if manifest.tokens else "-"),
        ("rows", count(manifest.rows)),
        ("packing efficiency", share(manifest.efficiency) if manifest.packing.capacity else "not packed"),
        ("split documents", count(manifest.split_documents)),
        ("truncated tokens", count(manifest.truncated_tokens)),
        ("dropped documents", count(manifest.dropped_documents)),
        ("empty records", count(manifest.empty)),
        ("quarantined records", count(manifest.quarantined)),
        ("seconds", f"{speed['seconds']:.2f}"),
        ("MB/s", f"{speed['megabytes_per_second']:.1f}"),
    ]


def show_estimate(
    sources: list[Source], out: Path | None, spec: str, options: dict[str, Any], as_json: bool
) -> int:
    """Prints what a job would give; nothing is written."""
    from tersely.corpus import estimate
    from tersely.load import load_tokenizer

    tok = load_tokenizer(
        spec, threads=options["threads"], allowed_specials=options["allowed_specials"] or None
    )
    if options["bos"] and tok.bos_id is None:
        raise UsageError(f"the tokenizer {spec} has no bos id: leave --bos out")
    asked = {name: options[name] for name in ("capacity", "strategy", "overflow", "bos", "eos")}
    figures = estimate(sources, tok, **asked)
    free = _free_bytes(out or Path())
    if as_json:
        print_json({"dry_run": True} | asdict(figures) | {"free_bytes": free})
        return 0
    rows = [
        ("sampled", share(figures.sampled_share)),
        ("documents", count(figures.documents)),
        ("bytes", count(figures.bytes)),
        ("tokens", count(figures.tokens)),
        ("bytes per token", f"{figures.bytes_per_token:.3f}"),
        ("rows", count(figures.rows)),
        ("dtype", figures.dtype),
        ("size on disk", size(figures.output_bytes)),
        ("free on disk", size(free) + (" (too little)" if free < figures.output_bytes else "")),
        ("seconds", f"{figures.seconds:.1f}"),
        ("bad records", share(figures.bad_share)),
    ]
    print_table("Estimate (nothing was written)", rows)
    return 0


def _free_bytes(out: Path) -> int:
    """What is free on the disk where ``out`` would be made."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
