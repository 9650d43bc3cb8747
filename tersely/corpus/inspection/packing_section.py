"""The part of the page that lets one choose a capacity and a strategy before computing with them."""

from __future__ import annotations

from collections.abc import Callable

from tersely.corpus.inspection.choices import STRATEGIES, Choice
from tersely.corpus.inspection.inspected import Inspection
from tersely.corpus.page import Line, bullets, cell, escape, legend_mark, line_chart, scroll, table
from tersely.pack import Strategy

_NAMES = {Strategy.BEST_FIT: "best-fit, mix"}
_COLORS = {strategy: number for number, strategy in enumerate(STRATEGIES)}


def packing_section(inspection: Inspection) -> str:
    """Charts of empty places and of documents cut, by capacity and strategy, and the table of all figures."""
    found = inspection.choices
    if not found:
        return ""
    cutting = {"split": "cut", "truncate": "truncated", "drop": "dropped"}[
        inspection.manifest.packing.overflow
    ]
    parts = [
        "<h2>Capacity and strategy</h2>",
        f"<p>{escape(present(inspection))}</p>",
        '<p class="soft">The same documents, planned anew. PackedDataset can read the folder with any of these, whatever it was '
        "written with.</p>",
        _legend(),
        "<h3>Empty places</h3>",
        _chart("empty places", found, lambda choice: choice.padding),
        "<h3>Documents not whole in one row</h3>",
        _chart("documents not whole in one row", found, lambda choice: choice.cut),
        _summary(found),
        f"<details><summary>Table: all figures</summary>\n{_table(found)}\n</details>",
        bullets(
            [
                f"Documents longer than a row are {cutting}, as in this folder; concat cuts wherever a row ends. mix needs exactly the "
                "rows of best-fit. Rows are planned over the whole corpus; in the folder they are packed shard by shard.",
                "Attention: pairs of tokens within a document, as a share of all pairs in full rows. It is what attention that keeps "
                "documents apart computes, next to attention that does not.",
                "Context: how many tokens of its own document a token has before it in the row, on average.",
            ]
        ),
    ]
    return "\n".join(parts)


def present(inspection: Inspection) -> str:
    """A sentence on the folder's own choice, as it was written, and on what others would save."""
    manifest = inspection.manifest
    packing = manifest.packing
    if not packing.capacity:
        return "The folder is not packed: a row is a document."
    cut = next(choice.cut for choice in inspection.choices if choice.present)
    return (
        f"Written with {packing.strategy} at {packing.capacity:,}: {manifest.rows:,} rows with {1 - manifest.efficiency:.3%} of "
        f"their places empty, and {cut:.2%} of the documents not whole in one row."
    )


def _legend() -> str:
    keys = [f"<li>{legend_mark(_COLORS[strategy])}{escape(named(strategy))}</li>" for strategy in STRATEGIES]
    return f'<ul class="legend">{"".join(keys)}</ul>'


def named(strategy: Strategy) -> str:
    """What a strategy is called where those of the same figures are shown as one."""
    return _NAMES.get(strategy, str(strategy))


def _chart(title: str, found: list[Choice], of: Callable[[Choice], float]) -> str:
    capacities = sorted({choice.capacity for choice in found})
    values = {(choice.capacity, choice.strategy): of(choice) for choice in found}
    lines = [
        Line(
            named(strategy), [values.get((capacity, strategy)) for capacity in capacities], _COLORS[strategy]
        )
        for strategy in reversed(STRATEGIES)
    ]
    own = next((choice.capacity for choice in found if choice.present), None)
    chosen = capacities.index(own) if own else None
    return scroll(
        line_chart(title, [f"{capacity:,}" for capacity in capacities], lines, chosen, "tokens in a row")
    )


def summary(found: list[Choice]) -> list[tuple[list[str], Strategy | None]]:
    """A line for each capacity, and the folder's own strategy if the capacity is its own.

    The cells: capacity; empty places with best-fit or mix, next-fit, concat; documents not whole with all but concat, with concat;
    rows, attention and context with best-fit or mix.
    """
    rows: list[tuple[list[str], Strategy | None]] = []
    for capacity in sorted({choice.capacity for choice in found}):
        made = {choice.strategy: choice for choice in found if choice.capacity == capacity}
        best, concat = made[Strategy.BEST_FIT], made[Strategy.CONCAT]
        row = [f"{capacity:,}", *(f"{made[strategy].padding:.3%}" for strategy in STRATEGIES)]
        row += [f"{best.cut:.2%}", f"{concat.cut:.2%}", f"{best.rows:,}"]
        row += [f"{best.attention:.1%}", f"{best.context:,.0f}"]
        rows.append((row, next((strategy for strategy in made if made[strategy].present), None)))
    return rows


def _summary(found: list[Choice]) -> str:
    head = ["capacity", *(f"empty: {named(strategy)}" for strategy in STRATEGIES)]
    head += ["not whole", "not whole: concat", "rows", "attention", "context"]
    lines: list[tuple[str, list[str]]] = []
    for row, own in summary(found):
        kinds = [("present" if own else "") + (" best" if own is strategy else "") for strategy in STRATEGIES]
        kinds += ["present" if own else ""] * (len(row) - 1 - len(kinds))
        lines.append((row[0], [cell(text, kind) for text, kind in zip(row[1:], kinds, strict=True)]))
    return table(head, lines)


def _table(found: list[Choice]) -> str:
    lost = any(choice.lost for choice in found)
    head = ["capacity", "strategy", "rows", "empty places", "not whole", *(["tokens lost"] if lost else [])]
    head += ["attention", "context"]
    rows: list[tuple[str, list[str]]] = []
    for choice in found:
        kind = "present best" if choice.present else ""
        texts = [f"{choice.rows:,}", f"{choice.padding:.3%}", f"{choice.cut:.2%}"]
        texts += [f"{choice.lost:.2%}"] if lost else []
        texts += [f"{choice.attention:.1%}", f"{choice.context:,.0f}"]
        name = named(choice.strategy) + (" (present)" if choice.present else "")
        rows.append(
            (
                f"{choice.capacity:,}",
                [cell(name, f"name {kind}".strip()), *(cell(text, kind) for text in texts)],
            )
        )
    return table(head, rows)
