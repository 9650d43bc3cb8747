"""``compare``: several tokenizers on the same documents, over all of them and by input and group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tersely.corpus.comparison.documents import MOST_GROUPS, Documents, sample_documents
from tersely.corpus.comparison.encodings import Encoding, encode_documents
from tersely.corpus.comparison.figures import Figures, figures, squared_lengths, weights_of
from tersely.corpus.comparison.flops import Flops, ModelShape
from tersely.corpus.measure import OTHERS
from tersely.corpus.read import Source
from tersely.errors import UsageError
from tersely.load import load_tokenizer

SAMPLE_BYTES = 16_000_000
_LISTED = MOST_GROUPS + 1
"""Inputs and groups that are reported one by one, the largest first; the others are reported together."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One tokenizer.

    Attributes:
        spec: what it was named by.
        name: a short name, unique among those compared.
        vocab_size: its ids are below this.
        fingerprint: of the tokenizer.
        megabytes_per_second: text encoded in a second, measured once on this machine with all threads; None if every batch had
            a document that was refused.
        refusal: why the first document left out was refused; "" if none was.
        loss: the first place at which a decoded document differs; "" if there is none.
        overall: its figures over all documents.
        files: its figures by input; one of which it encoded nothing is missing.
        groups: its figures by value of the field, in the same way.
        pooled_words: words that a word tokenizer finds in the whole input, which are the positions of a model that pools them;
            None for other tokenizers. ``flops`` are those of a model on the tokens, not pooled.
        flops: floating-point operations of one training pass over the whole input.
        relative_flops: their sum, as a multiple of the first tokenizer's.
    """

    spec: str
    name: str
    vocab_size: int
    fingerprint: str
    megabytes_per_second: float | None
    refusal: str
    loss: str
    overall: Figures
    files: dict[str, Figures]
    groups: dict[str, Figures]
    pooled_words: float | None
    flops: Flops
    relative_flops: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What ``compare`` found.

    Attributes:
        tokenizers: in the order in which they were named.
        files: names of the inputs, in their order.
        groups: values of the field ``by``, in alphabetical order; none without it.
        by: the field.
        capacity: tokens in a packed row.
        model: what the operations are counted for.
        documents: in the whole input, empty ones not counted.
        bytes: UTF-8 bytes of their texts.
        measured_documents: those that each tokenizer was given; what it left out is counted in ``Figures.left_out``.
        measured_bytes: of their texts.
        whole: whether these are all.
        partly_read: inputs that were not read to their end, with the share that was; 0 where their size is not known, and
            they count as what was read of them.
        notes: sentences on what was not read, left out, cut or lost.
    """

    tokenizers: list[Compared]
    files: list[str]
    groups: list[str]
    by: str | None
    capacity: int
    model: ModelShape
    documents: float
    bytes: float
    measured_documents: int
    measured_bytes: int
    whole: bool
    partly_read: dict[str, float]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain objects that JSON can hold."""
        plain = asdict(self)
        for number, tokenizer in enumerate(self.tokenizers):
            flops = tokenizer.flops
            plain["tokenizers"][number]["flops"] = {**flops._asdict(), "total": flops.total}
        plain["model"]["parameters"] = self.model.parameters
        return plain


def compare(
    sources: Sequence[Source],
    specs: Sequence[str],
    *,
    by: str | None = None,
    capacity: int = 8192,
    sample_bytes: int = SAMPLE_BYTES,
    model: ModelShape | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Encodes the same sample of documents with each tokenizer.

    Args:
        sources: the inputs; with ``by``, made with that field (``find_sources(..., fields=[by])``).
        specs: what ``tersely.load_tokenizer`` takes, each once; the first is what the operations are relative to.
        by: a field of the documents, for figures by its values.
        capacity: tokens in a packed row.
        sample_bytes: text that is measured, see ``sample_documents``.
        model: the decoder that training is counted for; by default the small GPT-2.
        on_progress: is told what is being done, and how many of how many bytes are done.

    Raises:
        UsageError: a tokenizer is named twice or none is, or an argument is out of range.
        CorpusError: the inputs hold no documents.
        TokenizeError: a tokenizer cannot be loaded, or encodes none of the documents.
    """
    if not specs or len(set(specs)) < len(specs):
        raise UsageError("name each tokenizer once, and at least one")
    if capacity < 1:
        raise UsageError(f"capacity is {capacity}: rows hold at least 1 token")
    tokenizers = [load_tokenizer(spec) for spec in specs]  # a wrong name is told before anything is read
    model = model or ModelShape()
    tell = on_progress or _nobody
    documents = sample_documents(sources, sample_bytes, by, partial(tell, "reading"))
    names = short_names(specs)
    file_names = short_names([source.name for source in sources])
    files = _parts([stratum.file for stratum in documents.strata], documents, file_names)
    groups = _parts([stratum.group for stratum in documents.strata], documents, {"": "(none)"}) if by else {}
    compared: list[Compared] = []
    notes = _notes_on_reading(documents)
    for spec, tok in zip(specs, tokenizers, strict=True):
        encoding = encode_documents(spec, tok, documents, partial(tell, names[spec]))
        first = compared[0].flops if compared else None
        made = _compared(names[spec], encoding, documents, files, groups, capacity, model, first)
        notes += _notes_on(made)
        compared.append(made)
    return Comparison(
        tokenizers=compared,
        files=list(files),
        groups=sorted(groups),
        by=by,
        capacity=capacity,
        model=model,
        documents=documents.total_documents,
        bytes=documents.total_bytes,
        measured_documents=len(documents.texts),
        measured_bytes=int(documents.bytes.sum()),
        whole=documents.whole,
        partly_read=documents.partly_read,
        notes=notes,
    )


def _nobody(what: str, done: int, total: int) -> None:
    """Is told how far the work is, and tells no one."""


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Each name without what says little: folders, endings, and the ``tokenizer.json`` that every folder has.

    Names that would then be the same stay as they are.
    """
    short = {name: _short(name) for name in names}
    times = Counter(short.values())
    return {name: made if times[made] == 1 else name for name, made in short.items()}


def _short(name: str) -> str:
    path = Path(name)
    if path.name in ("tokenizer.json", "tokenizer.model") and path.parent.name:
        return path.parent.name
    if path.suffix in (".tiktoken", ".model"):
        return path.stem
    return path.name or name


def _parts(keys: list[str], documents: Documents, names: dict[str, str]) -> dict[str, np.ndarray[Any, Any]]:
    """For each key which strata have it, bool; the smallest together where there are very many."""
    sizes: Counter[str] = Counter()
    for key, stratum in zip(keys, documents.strata, strict=True):
        sizes[key] += round(stratum.bytes)
    listed = {key for key, _ in sizes.most_common(_LISTED)}
    others = f"({len(sizes) - len(listed)} others)"
    labels = [names.get(key, key) if key in listed else others for key in keys]
    return {label: np.array([other == label for other in labels]) for label in dict.fromkeys(labels)}


def _compared(
    name: str,
    encoding: Encoding,
    documents: Documents,
    files: dict[str, np.ndarray[Any, Any]],
    groups: dict[str, np.ndarray[Any, Any]],
    capacity: int,
    model: ModelShape,
    first: Flops | None,
) -> Compared:
    everything = np.ones(len(documents.strata), np.bool_)
    overall = figures(encoding, documents, everything, capacity)
    assert overall is not None, "an encoding has at least one document"
    tokens, squares = squared_lengths(encoding, documents, capacity)
    flops = model.flops(tokens, squares, encoding.vocab_size)

    weights = weights_of(encoding, documents, everything)

    def each(parts: dict[str, np.ndarray[Any, Any]]) -> dict[str, Figures]:
        made = {key: figures(encoding, documents, chosen, capacity) for key, chosen in parts.items()}
        return {key: found for key, found in made.items() if found is not None}

    return Compared(
        spec=encoding.spec,
        name=name,
        vocab_size=encoding.vocab_size,
        fingerprint=encoding.fingerprint,
        megabytes_per_second=encoding.megabytes_per_second,
        refusal=encoding.refusal,
        loss=encoding.loss,
        overall=overall,
        files=each(files),
        groups=each(groups),
        pooled_words=None if encoding.pooled is None else float(weights @ encoding.pooled),
        flops=flops,
        relative_flops=flops.total / first.total if first else 1.0,
    )


def _notes_on_reading(documents: Documents) -> list[str]:
    notes: list[str] = []
    extrapolated = [name for name, share in documents.partly_read.items() if share]
    unknown = [name for name, share in documents.partly_read.items() if not share]
    for names, how in (
        (extrapolated, "figures of the whole are extrapolated"),
        (unknown, "their size is not known, so figures are for what was read of them"),
    ):
        if names:
            notes.append(
                f"{len(names)} inputs were read in part ({', '.join(names[:3])}): {how}, and groups that occur only later in them "
                "are missing."
            )
    if documents.others:
        notes.append(
            f"There are more than {MOST_GROUPS} groups: {documents.others} documents of those that came after the first "
            f"{MOST_GROUPS} are together as {OTHERS}."
        )
    if documents.cut:
        notes.append(f"Of {documents.cut} documents longer than the sample, only the beginning was measured.")
    if documents.broken_off:
        found = "; ".join(documents.broken_off[:3])
        notes.append(
            f"{len(documents.broken_off)} inputs broke off, and only what came before is measured ({found})."
        )
    if documents.rejected:
        notes.append(f"{documents.rejected} records are no documents and were passed over.")
    if documents.empty:
        notes.append(f"{documents.empty} documents without text were passed over.")
    return notes


def _notes_on(made: Compared) -> list[str]:
    notes: list[str] = []
    if made.pooled_words is not None:
        notes.append(
            f"{made.name} finds {made.pooled_words:,.0f} words: as many positions for a model that pools bytes into words. Its rows "
            "and FLOPs are those of a model on the bytes themselves."
        )
    if made.overall.left_out:
        why = made.refusal or "it turns them into no tokens"
        notes.append(
            f"{made.name} leaves out {made.overall.left_out} documents (the first: {why}); they count as the others of their kind."
        )
    if made.loss:
        back, kept = made.overall.restored, made.overall.bytes_back
        notes.append(
            f"{made.name} gives back {_percent(back)} of the documents and {_percent(kept)} of the bytes; for example "
            f"{made.loss}. What it loses makes its figures look better."
        )
    return notes


def _percent(share: float) -> str:
    """Never rounded to all or nothing."""
    shown = f"{100 * share:.1f} %"
    if 0 < share < 1:
        return {"100.0 %": "nearly all", "0.0 %": "hardly any"}.get(shown, shown)
    return "all" if share else "none"
