r"""The job that builds an equal-info code: a sample of the documents, a model of it, the code, and what that does.

sources -> a sample of blocks (bounded) -> a model of bytes -> EqualInfoTokenizer -> a folder
                    \-> one block in 16 is kept apart, and measured
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tersely.compress.equal_info import EqualInfoTokenizer
from tersely.compress.equal_info.models import Model, train_model
from tersely.compress.equal_info.tokenizer import check_size
from tersely.corpus.blocks import BlockSample
from tersely.corpus.read import Source
from tersely.corpus.tally import Tally
from tersely.corpus.train import TrainProgress, claim
from tersely.errors import CorpusError, choose

DEFAULT_SAMPLE = 32_000_000
"""Bytes of text that a model counts: more makes it better, slowly, and the build longer."""

MODEL_NAME = "model.safetensors"
"""The model, beside the code that was built by it; only reports read it."""

_APART = 16


@dataclass(frozen=True, kw_only=True)
class CodeTraining:
    """What the job read and made.

    Attributes:
        bits: of an id.
        carry: bytes that a window may know of the one before.
        classes: how many bytes before a window are told apart.
        documents: texts that were read.
        records: records that were read, those included that are no documents.
        rejected: records that are no documents.
        reasons: places and reasons of the first few of these.
        broken_off: inputs that ended before their end, each with the reason.
        bytes: of all texts.
        sampled_bytes: of those the model counted.
        apart_bytes: of those kept apart to measure.
        bytes_per_token: on these; 0 if there are none.
    """

    bits: int
    carry: int
    classes: int
    documents: int
    records: int
    rejected: int
    reasons: list[str]
    broken_off: list[str]
    bytes: int
    sampled_bytes: int
    apart_bytes: int
    bytes_per_token: float


def train_code(
    sources: Sequence[Source],
    out: str | Path,
    *,
    bits: int = 16,
    carry: int = 0,
    model: Model | str = Model.NGRAM,
    sample_bytes: int = DEFAULT_SAMPLE,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> CodeTraining:
    """Builds a code and writes it, with its model, into a new folder.

    The same documents give the same bytes, in whatever order they come (a neural model may round differently elsewhere).

    Args:
        sources: where the documents are.
        out: the folder to make.
        bits: of an id, 9 to 24.
        carry: bytes that a window may know of the one before, 0 to 2.
        model: by which the code is built.
        sample_bytes: text to learn from, drawn evenly from all there is.
        on_progress: called after every batch, and with every step of the build.

    Raises:
        CorpusError: ``out`` exists or cannot be made, or there is no text.
        UsageError: ``bits`` or ``carry`` is out of bounds, or there is no such model.
    """
    check_size(bits, carry)
    kind = choose(Model, model)
    out = claim(Path(out))
    tell = on_progress or (lambda progress: None)
    total = sum(source.size for source in sources)
    sample = BlockSample(sample_bytes)
    tally = Tally(phrases=sample)
    tally.read(sources, lambda done: tell(TrainProgress("reading", done, total)))
    blocks = [text for batch in sample.texts() for text in batch]
    learned, apart = [block for i, block in enumerate(blocks) if i % _APART or not i], blocks[_APART::_APART]
    if not any(learned):
        raise CorpusError("there is no text to build a code from: name inputs with documents")
    model_of_bytes = train_model(
        kind, learned, on_progress=lambda done, steps: tell(TrainProgress("learning", done, steps))
    )

    def building(done: int, most: int) -> None:
        tell(TrainProgress("building", done, most))

    tok = EqualInfoTokenizer.train(
        learned, bits=bits, carry=carry, model=model_of_bytes, on_progress=building
    )
    tok.save(out)
    model_of_bytes.save(out / MODEL_NAME)
    apart_bytes = sum(len(block.encode()) for block in apart)
    return CodeTraining(
        bits=bits,
        carry=carry,
        classes=len(tok.classes),
        documents=tally.documents,
        records=tally.records,
        rejected=tally.rejected,
        reasons=tally.reasons,
        broken_off=tally.broken_off,
        bytes=sample.bytes,
        sampled_bytes=sum(len(block.encode()) for block in learned),
        apart_bytes=apart_bytes,
        bytes_per_token=apart_bytes / max(1, len(tok.encode(apart).values)),
    )
