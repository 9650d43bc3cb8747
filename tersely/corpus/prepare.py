r"""The main job: documents in, packed shards out, every record accounted for.

    sources -> JobPlan -> tasks -> (batches of texts -> ids -> rows) -> data-00000-00000.arrow, ...
                                        \-> quarantine.jsonl              manifest.json, at the end

Documents are packed within a shard, so memory is bounded by the shard and not by the corpus. A job that was stopped, in
whatever way, goes on when it is called again, and the folder gets the same bytes as if nothing had happened.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, is_dataclass, replace
from pathlib import Path

import tersely
from tersely.corpus.executors import Executor, SerialExecutor
from tersely.corpus.job import Job, JobPlan, Place, Settings, finish, make_plan, run_tasks
from tersely.corpus.job.done import At
from tersely.corpus.job.finish import unfinished
from tersely.corpus.job.place import merge_lock
from tersely.corpus.job.plan import is_readable_again, stamps
from tersely.corpus.job.task import TaskInput
from tersely.corpus.probe import is_lossless
from tersely.corpus.read import Source
from tersely.corpus.records import TextRecords
from tersely.errors import CorpusError, UsageError
from tersely.load import load_tokenizer
from tersely.pack import Overflow, Strategy
from tersely.pack.plan import checked_settings
from tersely.shards import Manifest, Packing, TokenizerEntry
from tersely.shards.disk import room_told
from tersely.tokenize import SubwordTokenizer, Tokenizer, WordTokenizer, id_dtype

SHARD_TOKENS = 1 << 25
"""A shard is written once it has this many tokens."""

_TEXT = TextRecords()
_TICK = 0.25
"""Seconds between two calls of ``on_progress``."""


@dataclass(frozen=True)
class Progress:
    """How far a job is: stored bytes read of ``bytes_total`` (0 if unknown), and what they gave so far."""

    bytes_read: int
    bytes_total: int
    documents: int
    tokens: int
    quarantined: int


def prepare(
    sources: Sequence[Source],
    out: str | Path,
    tokenizer: Tokenizer | str | Path = "bytes",
    *,
    capacity: int = 8192,
    strategy: Strategy | str = Strategy.BEST_FIT,
    overflow: Overflow | str = Overflow.SPLIT,
    seed: int = 0,
    bos: bool = False,
    eos: bool = True,
    words: bool = False,
    salvage: bool = False,
    shard_tokens: int = SHARD_TOKENS,
    task_bytes: int = 0,
    threads: int | None = None,
    allowed_specials: Sequence[str] = (),
    executor: Executor | None = None,
    share: tuple[int, int] = (0, 1),
    allow_changed: bool = False,
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> Manifest | None:
    """Tokenizes and packs documents into a folder that ``datasets.load_from_disk`` and ``PackedDataset`` open.

    If the folder holds an unfinished run of the same job, it goes on with it; if it holds the finished one, it returns
    its manifest.

    Args:
        sources: the inputs, see ``find_sources``.
        out: the folder to make; it must not exist, or be empty, or be of the same job.
        tokenizer: a tokenizer, or what ``load_tokenizer`` takes (``threads`` and ``allowed_specials`` are for the latter).
        capacity: tokens in a packed row; 0 writes a row for each document.
        strategy: how documents are put into rows, see ``tersely.pack.Strategy``.
        overflow: what happens to a document longer than a row.
        seed: decides the order of rows within a shard (strategies that keep the order of the corpus keep it).
        bos: open each document with the tokenizer's bos id.
        eos: close each document with its eos id, if it has one.
        words: write the column ``word_lengths``, for a tokenizer that knows words.
        salvage: keep the records before the break of an input that breaks off, which is left out otherwise.
        shard_tokens: a shard is written once it has this many tokens, or its task ends.
        task_bytes: stored bytes that make a task; by default as ``tersely.corpus.job.make_plan`` says.
        threads: how many threads tokenize in each process, by default one for each processor; the folder does not
            depend on it.
        allowed_specials: special tokens that text may spell, see ``load_tokenizer``.
        executor: what runs the tasks, by default this process; the folder does not depend on it.
        share: (i, n) does only every n-th task, from the i-th on; whoever finds all of them done finishes the folder.
        allow_changed: if inputs were changed since an unfinished run, do again what was made of them.
        command: is noted in the manifest.
        on_progress: called now and then, from another thread.

    Returns:
        The manifest, or None if other shares are not done yet. The folder also has ``quarantine.jsonl``, one line for
        each record that is no document, and, if a source gives fields, their values for each document. Records that
        are more than a text give the column ``labels``.

    Raises:
        CorpusError: the folder is in use, holds something else, or cannot be written.
        UnfinishedError: the job stopped early; the same call goes on with it.
        UsageError: an argument is not allowed, such as ``bos`` for a tokenizer without that id.
    """
    if allow_changed and share[1] > 1:
        raise UsageError("--allow-changed concerns the whole job: run it once without --shard")
    again = all(map(is_readable_again, sources))
    if not again:
        executor = None  # other processes cannot read this one's standard input
        if share[1] > 1:
            raise UsageError("standard input and pipes cannot be read in shares: name files")
    tok, spec = _tokenizer(tokenizer, threads, allowed_specials, here=executor is None)
    _check(tok, spec, bos, words, share, capacity, shard_tokens)
    _, strategy, overflow, seed = checked_settings(capacity or 1, strategy, overflow, seed)
    overflow = Overflow.SPLIT if strategy is Strategy.CONCAT else overflow
    settings = Settings(
        tokenizer=tok.fingerprint,
        packing=Packing(capacity=capacity, strategy=strategy, overflow=overflow, seed=seed),
        bos=bos,
        eos=eos and tok.eos_id is not None,
        shard_tokens=shard_tokens,
        task_bytes=task_bytes,
        words=words,
        labels=any(not isinstance(getattr(source, "records", _TEXT), TextRecords) for source in sources),
        salvage=salvage,
    )
    job_plan = make_plan(sources, settings)
    place = Place(Path(out))
    if (finished := place.finished()) is not None:
        return _same(finished, job_plan, place)
    names = tuple(dict.fromkeys(name for source in sources for name in source.fields))
    job = Job(place.out.absolute(), settings, names, threads, tok if executor is None else None)
    with room_told(place.out), place.claimed(job_plan, share, allow_changed=allow_changed, again=again):
        place.save_tokenizer(tok)
        tasks = range(share[0], len(job_plan.tasks), share[1])
        inputs = _task_inputs(job_plan, sources, tasks)
        with _progress(place, inputs, sum(source.size for source in sources), on_progress):
            run_tasks(job, inputs, executor or SerialExecutor(), again)
        if (finished := place.finished()) is not None:
            return _same(finished, job_plan, place)  # by another share
        if unfinished(place, job_plan):
            return None
        if stamps(sources) != job_plan.stamps:
            raise CorpusError(
                f"an input was changed while {place.out} was made of it: see to it, and run it again"
            )
        draft = _draft(job_plan, tok, spec, command)
        with merge_lock(place):
            if (finished := place.finished()) is not None:
                return finished
            return finish(place, job_plan, draft, tok, names)


def _tokenizer(
    given: Tokenizer | str | Path, threads: int | None, allowed_specials: Sequence[str], here: bool
) -> tuple[Tokenizer, str]:
    """The tokenizer, ready for a new job, which is done ``here`` or elsewhere; and what the manifest calls it."""
    if isinstance(given, str | Path):
        tok = load_tokenizer(given, threads=threads, allowed_specials=allowed_specials or None, fast=here)
    else:
        tok = given
    if isinstance(tok, SubwordTokenizer):
        tok.new_job()
    return tok, str(given) if isinstance(given, str | Path) else type(given).__name__


def _draft(job_plan: JobPlan, tok: Tokenizer, spec: str, command: str) -> Manifest:
    """What the manifest says whatever becomes of the tasks."""
    settings = job_plan.settings
    return Manifest(
        tersely=tersely.__version__,
        plan=job_plan.fingerprint,
        command=command,
        tokenizer=TokenizerEntry(
            spec=spec,
            fingerprint=tok.fingerprint,
            vocab_size=tok.vocab_size,
            bos_id=tok.bos_id,
            eos_id=tok.eos_id,
            pad_id=tok.pad_id,
            bos=settings.bos,
            eos=settings.eos,
            lossless=is_lossless(tok),
        ),
        packing=settings.packing,
        dtype=str(id_dtype(tok.vocab_size)),
        columns=[*["labels"] * settings.labels, *["word_lengths"] * settings.words],
    )


def _check(
    tok: Tokenizer,
    spec: str,
    bos: bool,
    words: bool,
    share: tuple[int, int],
    capacity: int,
    shard_tokens: int,
) -> None:
    if bos and tok.bos_id is None:
        raise UsageError(f"the tokenizer {spec} has no bos id: leave --bos out")
    if words and not isinstance(tok, WordTokenizer):
        raise UsageError(f"the tokenizer {spec} does not know words: use 'words', or leave --words out")
    if not 0 <= share[0] < share[1]:
        raise UsageError(f"share {share[0]} of {share[1]} is none: shares are numbered from 0")
    if capacity < 0 or shard_tokens < 1:
        raise UsageError(f"capacity {capacity} and shard_tokens {shard_tokens} must not be negative")


def _same(manifest: Manifest, job_plan: JobPlan, place: Place) -> Manifest:
    """The manifest of a finished folder, if it is of this job."""
    if manifest.plan != job_plan.fingerprint:
        raise CorpusError(
            f"{place.out} is not empty (it holds a finished corpus, of other inputs or settings): choose another --out, "
            "or remove it first"
        )
    for source, now in zip(manifest.sources, job_plan.stamps, strict=True):
        if source.modified_ns != now:
            raise CorpusError(
                f"{source.name} was changed since {place.out} was made of it: choose another --out, or remove that first"
            )
    place.clear()
    return manifest


def _task_inputs(job_plan: JobPlan, sources: Sequence[Source], numbers: Iterable[int]) -> list[TaskInput]:
    spans = Counter(part.source for task in job_plan.tasks for part in task)
    sizes = [source.size // max(1, spans[number]) for number, source in enumerate(sources)]
    return [
        TaskInput(
            number,
            [(part, _anywhere(sources[part.source])) for part in job_plan.tasks[number]],
            [sizes[part.source] for part in job_plan.tasks[number]],
        )
        for number in numbers
    ]


def _anywhere(source: Source) -> Source:
    """The source as processes find it that work in other folders."""
    if (
        is_dataclass(source)
        and not isinstance(source, type)
        and isinstance(getattr(source, "path", None), Path)
    ):
        return replace(source, path=source.path.absolute())  # pyright: ignore[reportAttributeAccessIssue]
    return source


@contextmanager
def _progress(
    place: Place,
    tasks: Sequence[TaskInput],
    bytes_total: int,
    on_progress: Callable[[Progress], None] | None,
) -> Generator[None]:
    """Calls ``on_progress`` while the tasks run, with what they noted of themselves, and once at the end."""
    if on_progress is None or not tasks:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        notes = [At.read(place.position(task.number)) for task in tasks]
        read, documents, tokens, quarantined = (
            sum(column) for column in zip(*(astuple(note)[2:] for note in notes), strict=True)
        )
        on_progress(Progress(read, bytes_total, documents, tokens, quarantined))

    def watch() -> None:
        while not over.wait(_TICK):
            tell()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    tell()
