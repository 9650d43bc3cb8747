"""An inspection as one HTML page: nothing fetched and nothing run, its figures in it for programs too."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from tersely.corpus.inspection.inspected import MOST_SOURCES, Inspection
from tersely.corpus.inspection.packing_section import packing_section
from tersely.corpus.inspection.quarantine import Quarantine
from tersely.corpus.inspection.sources import SourceFigures
from tersely.corpus.page import bullets, cell, column_chart, escape, html_page, scroll, table

_KINDS_SHOWN = 30
_DASH = "\u2013"


def inspection_page(inspection: Inspection) -> str:
    """The page, to be written as UTF-8."""
    command = command_of(inspection)
    sections = [
        f'<p class="soft">A corpus prepared by tersely {escape(inspection.manifest.tersely)}.</p>',
        f"<pre>{escape(command)}</pre>" if command else "",
        _cards(inspection),
        _facts(inspection),
        _lengths(inspection),
        _sources(inspection),
        packing_section(inspection),
        _quarantine(inspection.quarantine),
        _notes(inspection),
    ]
    name = inspection.folder.absolute().name or str(inspection.folder)
    return html_page(name, sections, inspection.to_page_dict())


def command_of(inspection: Inspection) -> str:
    """The command that makes the folder again, "" if it is not known."""
    command = inspection.manifest.command
    return f"{command} --out {shlex.quote(str(inspection.folder))}" if command else ""


def _cards(inspection: Inspection) -> str:
    """The figures that one asks for first."""
    manifest, ratio = inspection.manifest, inspection.bytes_per_token
    cards = [
        ("documents", f"{manifest.documents:,}"),
        ("tokens", f"{manifest.tokens:,}"),
        ("bytes per token", f"{ratio:.3f}" if ratio else _DASH),
        ("rows", f"{manifest.rows:,}"),
    ]
    if manifest.packing.capacity and manifest.rows:
        cards.append(("of places filled", f"{manifest.efficiency:.3%}"))
    if inspection.all_sources.trained is not None:
        cards.append(("of tokens trained on", f"{inspection.all_sources.trained:.2%}"))
    if manifest.quarantined:
        cards.append(("quarantined", f"{manifest.quarantined:,}"))
    items = "".join(f"<li><b>{escape(value)}</b>{escape(name)}</li>" for name, value in cards)
    return f'<ul class="cards">{items}</ul>'


def facts(inspection: Inspection) -> list[tuple[str, str]]:
    """What the folder is, in names and values."""
    manifest = inspection.manifest
    tokenizer = manifest.tokenizer
    specials = " ".join(name for name, used in (("bos", tokenizer.bos), ("eos", tokenizer.eos)) if used)
    lost = [
        (manifest.truncated_tokens, "tokens truncated"),
        (manifest.dropped_documents, "documents dropped"),
        (manifest.dropped_tokens, "tokens in these"),
    ]
    rows = [
        ("text", f"{manifest.bytes:,} bytes"),
        ("tokenizer", f"{tokenizer.spec}, {tokenizer.vocab_size:,} ids"),
        ("fingerprint", tokenizer.fingerprint),
        ("added to documents", specials or "nothing"),
        ("stored as", manifest.dtype),
        ("packing", _packing(inspection)),
        ("lost to overflow", ", ".join(f"{number:,} {what}" for number, what in lost if number) or "nothing"),
        ("shards", f"{len(manifest.shards):,}, {_size(sum(shard.size for shard in manifest.shards))}"),
        ("further columns", ", ".join(manifest.columns) or "none"),
        ("fields of documents", ", ".join(inspection.fields) or "none"),
        ("records", records_of(inspection.all_sources)),
    ]
    if inspection.all_sources.words is not None:
        rows.append(("words", f"{inspection.all_sources.words:,}"))
    return rows


def records_of(all_sources: SourceFigures) -> str:
    """What became of all records, as a sentence: nothing is missing in it."""
    one = all_sources
    sentence = f"{one.records:,} = {one.documents:,} documents + {one.empty:,} empty + {one.quarantined:,} quarantined"
    return sentence + (f"; {one.repaired:,} repaired" if one.repaired else "")


def _packing(inspection: Inspection) -> str:
    packing = inspection.manifest.packing
    if not packing.capacity:
        return "none: a row for each document"
    return f"{packing.strategy} into rows of {packing.capacity:,} tokens, {packing.overflow} what is longer"


def _facts(inspection: Inspection) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts(inspection))
    return f"<dl>{items}</dl>"


def _lengths(inspection: Inspection) -> str:
    """How many documents there are of each length, and where the tokens are."""
    lengths, steps = inspection.lengths, inspection.lengths.histogram()
    if not steps:
        return '<h2>Length of documents</h2>\n<p class="soft">There are no documents.</p>'
    edges = [steps[0][0], *(to for _, to, _, _ in steps)]
    documents, tokens = lengths.documents, lengths.tokens
    middle = lengths.token_percentile(50)
    marks = [
        (float(lengths.percentile(p)), f"{name} {lengths.percentile(p):,}")
        for p, name in ((50, "median"), (90, "90 %"), (99, "99 %"))
    ]
    of_documents = column_chart(
        "documents by length", edges, [step[2] / documents for step in steps], marks, unit="tokens"
    )
    of_tokens = column_chart(
        "tokens by length of their document",
        edges,
        [step[3] / tokens for step in steps],
        [(float(middle), f"half of the tokens: up to {middle:,}")],
        unit="tokens in the document",
        color=2,
    )
    percents = (1, 10, 25, 50, 75, 90, 99, 99.9)
    rows = [
        (f"{p:g} %", [cell(f"{lengths.percentile(p):,}"), cell(f"{lengths.token_percentile(p):,}")])
        for p in percents
    ]
    return (
        "<h2>Length of documents</h2>\n"
        f'<p class="soft">In tokens, as stored. {tokens / documents:,.1f} on average; the longest has {lengths.longest:,}.</p>\n'
        f"<h3>Documents</h3>\n{scroll(of_documents)}\n"
        '<h3>Tokens</h3>\n<p class="soft">Where the tokens are: each column is the share of all tokens that documents of this '
        f"length hold.</p>\n{scroll(of_tokens)}\n"
        "<details><summary>Table: percentiles</summary>\n"
        + table(
            ["up to", "documents are at most this long", "tokens are in documents at most this long"], rows
        )
        + "\n</details>"
    )


_COLUMNS: list[tuple[str, Callable[[SourceFigures], int | float], Callable[[SourceFigures], str]]] = [
    ("cut", lambda one: one.cut, lambda one: f"{one.cut:,}"),
    ("dropped", lambda one: one.dropped, lambda one: f"{one.dropped:,}"),
    ("trained on", lambda one: one.trained is not None, lambda one: f"{one.trained or 0:.1%}"),
    ("nothing trained", lambda one: one.untrained, lambda one: f"{one.untrained:,}"),
    ("quarantined", lambda one: one.quarantined, lambda one: f"{one.quarantined:,}"),
    ("empty", lambda one: one.empty, lambda one: f"{one.empty:,}"),
    ("repaired", lambda one: one.repaired, lambda one: f"{one.repaired:,}"),
    (
        "broke off",
        lambda one: one.broken_off,
        lambda one: f"{one.broken_off:,}" if one.broken_off > 1 else "yes" * one.broken_off,
    ),
]
"""Columns that are only there where some source has something in them."""


def _sources(inspection: Inspection) -> str:
    """A line for each source, the largest first, and one for all."""
    every = inspection.all_sources
    together = (inspection.rest, every if len(inspection.sources) > 1 else None)
    shown = inspection.largest + [one for one in together if one]
    used = [(name, text) for name, amount, text in _COLUMNS if amount(every)]
    packed = inspection.manifest.packing.capacity > 0
    head = ["source", "share of tokens", "tokens", "documents", "bytes", "bytes per token"]
    head += [*(["empty places"] if packed else []), *(name for name, _ in used)]
    rows: list[tuple[str, list[str]]] = []
    for one in shown:
        part = one.tokens / max(every.tokens, 1)
        ratio = f"{one.bytes_per_token:.3f}" if one.bytes_per_token else _DASH
        cells = [cell(f"{part:.1%}", share=part), cell(f"{one.tokens:,}"), cell(f"{one.documents:,}")]
        cells += [cell(f"{one.bytes:,}"), cell(ratio)] + ([cell(f"{one.padding:.3%}")] if packed else [])
        bad = {"quarantined", "broke off", "dropped"}
        cells += [
            cell(text(one), "bad" if name in bad and text(one) not in ("", "0") else "")
            for name, text in used
        ]
        rows.append((one.name, cells))
    note = f" The {MOST_SOURCES} with the most tokens; --json has all." if inspection.rest else ""
    return f'<h2>Sources</h2>\n<p class="soft">{len(inspection.sources):,} in all.{note}</p>\n{table(head, rows)}'


def _quarantine(quarantine: Quarantine) -> str:
    """Reasons with their counts, and the first records of each."""
    if not quarantine.records:
        return '<h2>Quarantine</h2>\n<p class="soft">Every record with text became a document.</p>'
    rows: list[tuple[str, list[str]]] = []
    for kind in quarantine.kinds[:_KINDS_SHOWN]:
        share = kind.records / quarantine.records
        rows.append((kind.reason, [cell(f"{share:.1%}", share=share), cell(f"{kind.records:,}")]))
    left = quarantine.records - sum(kind.records for kind in quarantine.kinds[:_KINDS_SHOWN])
    if left:
        rows.append(("other reasons", [cell(f"{left / quarantine.records:.1%}"), cell(f"{left:,}")]))
    items: list[str] = []
    for kind in quarantine.kinds[:_KINDS_SHOWN]:
        for one in kind.examples:
            place = (
                one.source
                + (f", line {one.line:,}" if one.line else "")
                + (f", byte {one.byte:,}" if one.byte >= 0 else "")
            )
            excerpt = f"<pre>{escape(one.excerpt)}</pre>" if one.excerpt else ""
            items.append(f'<li><b class="place">{escape(place)}</b><br>{escape(one.reason)}{excerpt}</li>')
    examples = "\n".join(items)
    return (
        f'<h2>Quarantine</h2>\n<p class="soft">{quarantine.records:,} records are no documents. Numbers in reasons are shown as '
        f"#; quarantine.jsonl has every record with its place.</p>\n{table(['reason', 'share', 'records'], rows)}\n"
        f"<details open><summary>The first records of each reason</summary>\n"
        f'<ul class="examples">\n{examples}\n</ul>\n</details>'
    )


def _notes(inspection: Inspection) -> str:
    notes = [
        "Bytes per token are UTF-8 bytes of text for each token it became, without the tokens that open and close documents. Of a "
        "source some of whose documents may have been truncated or dropped they are not known.",
        "Empty places of a source: the empty places of each row are shared out to its documents by their tokens, then counted "
        "against the places of the source, full and empty. A source of documents that fill rows alone shows what it costs.",
        "Lengths are of documents as stored: a document that was truncated counts with what is left of it, a dropped one not at "
        "all.",
    ]
    if inspection.planned < inspection.lengths.documents:
        notes.append(
            f"Plans were made with {inspection.planned:,} of the documents, a stretch of each shard, and scaled to all of them."
        )
    return f"<h2>Notes</h2>\n{bullets(notes)}"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
