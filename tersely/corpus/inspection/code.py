"""A code measured on documents, and the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersely.compress.equal_info import EqualInfoTokenizer
from tersely.compress.equal_info.models import load_model
from tersely.compress.equal_info.report import CodeReport, measure_code
from tersely.corpus.blocks import BlockSample
from tersely.corpus.page import bullets, column_chart, escape, html_page, scroll
from tersely.corpus.read import Source
from tersely.corpus.tally import Tally
from tersely.corpus.train_code import MODEL_NAME


@dataclass(frozen=True, kw_only=True)
class CodeInspection:
    """A code, and what it does to a text.

    Attributes:
        folder: where the code is.
        tokenizer: the code.
        report: its figures.
    """

    folder: Path
    tokenizer: EqualInfoTokenizer
    report: CodeReport

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        code = self.tokenizer
        about = {
            "bits": code.bits,
            "carry": code.carry,
            "classes": len(code.classes),
            "fingerprint": code.fingerprint,
        }
        return {"folder": str(self.folder)} | about | self.report.to_dict()


def inspect_code(folder: str | Path, sources: Sequence[Source], *, sample_bytes: int) -> CodeInspection:
    """Measures the code of a folder on documents that it was not trained on.

    Args:
        folder: written by ``save`` or by ``train_code``.
        sources: the documents; cut into blocks of 4096 characters.
        sample_bytes: text to measure on, drawn evenly from all there is.

    Raises:
        TokenizeError: the folder holds no code, or it is damaged.
        UsageError: there is no text.
    """
    folder = Path(folder)
    tok = EqualInfoTokenizer.load(folder)
    sample = BlockSample(sample_bytes)
    Tally(phrases=sample).read(sources, lambda done: None)
    blocks = [text for batch in sample.texts() for text in batch]
    model = load_model(folder / MODEL_NAME) if (folder / MODEL_NAME).exists() else None
    return CodeInspection(folder=folder, tokenizer=tok, report=measure_code(tok, blocks, model))


def code_page(found: CodeInspection) -> str:
    """The page, to be written as UTF-8."""
    on, code = found.report, found.tokenizer
    cards = [
        ("bytes per token", f"{on.bytes_per_token:.3f}"),
        ("bits per byte", f"{on.bits_per_byte:.3f}"),
        ("of them for the model", f"{on.model_bits_per_byte:.3f}" if on.model_bits_per_byte else "\u2013"),
        (f"bits of {code.bits} by frequency", f"{on.unigram_entropy:.2f}"),
        ("tokens changed by a byte in front", f"{on.changed_tokens:.1f}"),
        ("documents lost", f"{on.failures:,}"),
    ]
    items = "".join(f"<li><b>{escape(value)}</b>{escape(name)}</li>" for name, value in cards)
    longest = len(on.lengths)
    shares = [number / on.tokens for number in on.lengths[1:]]
    held = [number * length / on.bytes for length, number in enumerate(on.lengths)][1:]
    notes = [
        f"Measured on {on.documents:,} blocks of documents, {on.bytes:,} bytes. What the code was trained on says little.",
        f"{on.live_ids:,} of {code.vocab_size:,} ids are the first of some text, one ends a text; {on.used_ids:,} are used here.",
        "A code of windows takes more bits than its model would with all of the text before: each window begins anew.",
    ]
    return html_page(
        found.folder.absolute().name,
        [
            f'<p class="soft">An equal-info code of {code.bits} bits that carries {code.carry} bytes, '
            f"with {len(code.classes):,} classes of bytes before a window.</p>",
            f'<ul class="cards">{items}</ul>',
            "<h2>Length of windows</h2>",
            scroll(column_chart("windows by bytes", range(1, longest + 1), shares, unit="bytes of a window")),
            "<h3>Text</h3>",
            '<p class="soft">Each column is the share of all bytes that windows of this length hold.</p>',
            scroll(
                column_chart(
                    "bytes by window", range(1, longest + 1), held, unit="bytes of the window", color=2
                )
            ),
            f"<h2>Notes</h2>\n{bullets(notes)}",
        ],
        found.to_dict(),
    )
