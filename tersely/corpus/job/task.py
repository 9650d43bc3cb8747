"""A task: its parts of the inputs are read, encoded, packed and written, and each step that is on disk is journalled."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from tersely.corpus.encode import Encoded, encode_batch
from tersely.corpus.job.done import At, Counts, Done
from tersely.corpus.job.place import Place
from tersely.corpus.job.plan import Part, Settings
from tersely.corpus.job.rows import Rows
from tersely.corpus.read import Batch, Rejected, Source, raw_bytes
from tersely.errors import FingerprintError
from tersely.load import load_tokenizer
from tersely.shards import Journal, ShardEntry, write_fields, write_shard
from tersely.shards.atomic import TEMPORARY, sync_folder
from tersely.tokenize import SubwordTokenizer, Tokenizer, id_dtype


@dataclass(frozen=True)
class Job:
    """What all tasks of a job have in common; sent to the processes that run them.

    ``given`` is the tokenizer itself where it is used in this process; others load the folder's copy.
    """

    out: Path
    settings: Settings
    names: tuple[str, ...]
    threads: int | None
    given: Tokenizer | None = None

    @property
    def place(self) -> Place:
        """The files of the job."""
        return Place(self.out)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded once in each process."""
        return self.given or _loaded(str(self.out / "tokenizer"), self.settings.tokenizer, self.threads)


@lru_cache(maxsize=2)
def _loaded(folder: str, fingerprint: str, threads: int | None) -> Tokenizer:
    tok = load_tokenizer(folder, threads=threads)
    if tok.fingerprint != fingerprint:
        raise FingerprintError(
            f"the tokenizer in {folder} is not the one of the job: give the tokenizer as a file"
        )
    if isinstance(tok, SubwordTokenizer):
        tok.new_job()
    return tok


@dataclass(frozen=True)
class TaskInput:
    """A task as it is sent to the process that runs it: its number, its parts with their sources, and about how many
    stored bytes each has.
    """

    number: int
    parts: list[tuple[Part, Source]]
    sizes: list[int]


class _BrokenInputs(Exception):
    """Carries the parts whose inputs broke off, each with the reason."""


class _Rejects:
    """Records that are no documents, on their way to the file of a line of the journal: never more than a batch's in
    memory.
    """

    def __init__(self, folder: Path) -> None:
        self._temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        self._file: IO[str] | None = None

    def add(self, rejects: Iterable[dict[str, Any]]) -> None:
        """Takes the next ones."""
        for reject in rejects:
            self._file = self._file or self._temporary.open("w")
            self._file.write(json.dumps(reject, ensure_ascii=True) + "\n")

    def put(self, path: Path) -> bool:
        """Makes them that file, if there are any."""
        if self._file is None:
            return False
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(path)
        sync_folder(path.parent)
        return True

    def drop(self) -> None:
        """Removes what was not put anywhere."""
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def run_task(job: Job, task: TaskInput) -> None:
    """Does what is left to do of a task; what it did stands in its journal."""
    while True:
        journal = job.place.journal(task.number)
        done = Done.of(job.place, task.number)
        if done.finished:
            return
        if done.damaged:
            journal.append({"again": "files were missing"})
        job.place.remove(task.number, range(len(done.lines), done.written + 1))
        attempt = _Run(job, task, journal, done)
        try:
            attempt.run()
        except _BrokenInputs as broken:
            for part, reason in broken.args:
                journal.append({"leave_out": [part, reason]})
        finally:
            attempt.rejects.drop()


class _Run:
    """One run through the parts of a task, from where its journal stands."""

    def __init__(self, job: Job, task: TaskInput, journal: Journal, done: Done) -> None:
        self.job, self.task, self.journal, self.done = job, task, journal, done
        self.tok = job.tokenizer()
        self.number = len(done.lines)
        self.tokens = sum(line["shard"]["tokens"] for line in done.lines if "shard" in line)
        self.broken: list[tuple[int, str]] = []
        self.total = Counts()
        for _, counts in done.counts:
            self.total += counts
        self._start()

    def _start(self) -> None:
        """Nothing waits for the next line of the journal."""
        self.rows = Rows(self.job.settings.packing, self.job.names, self.job.settings.labels)
        self.counts: dict[int, Counts] = {}
        self.rejects = _Rejects(self.job.place.work)

    def run(self) -> None:
        """Takes all records that the journal does not have."""
        for number, (part, source) in enumerate(self.task.parts):
            first, skipped = self.done.next
            if number < first:
                continue
            if number in self.done.left_out:
                self._leave_out(number)
                continue
            batch = Batch()
            for order, batch in enumerate(source.batches(part.span)):
                if number == first and order < skipped:
                    continue
                self._tell(number, order, batch.bytes_read)
                if self.broken:
                    continue  # all of it will be done again, without those that are found to be broken until the end
                self._take(number, order, part.source, batch)
                if self.rows.tokens >= self.job.settings.shard_tokens:
                    self._commit((number, order + 1))
            if batch.fault:
                self._broken(number, batch)
        if self.broken:
            raise _BrokenInputs(*self.broken)
        self._tell(len(self.task.parts), 0, 0)
        self._commit((len(self.task.parts), 0), end=True)

    def _tell(self, number: int, order: int, bytes_read: int) -> None:
        """Notes the batch in hand, for whoever watches, and for whoever looks for the record that killed the process."""
        read = sum(self.task.sizes[:number]) + min(
            bytes_read, *self.task.sizes[number : number + 1], bytes_read
        )
        total = self.total
        now = At(number, order, read, total.documents, self.tokens, total.quarantined)
        self.job.place.position(self.task.number).write_text(" ".join(map(str, astuple(now))) + "\n")

    def _take(self, number: int, order: int, source: int, batch: Batch) -> None:
        poison = self.done.poison.get((number, order), {})
        rejected = list(batch.rejected)
        if poison:
            rejected += [_rejected(batch, text, reason) for text, reason in poison.items()]
            batch = batch.without(poison)
        encoded = encode_batch(batch, self.tok, self.job.settings.bos, self.job.settings.eos)
        self.rows.add(encoded, source, batch.fields)
        self._reject(number, [*rejected, *encoded.failed])
        self._count(number, batch, encoded, len(rejected))

    def _count(self, number: int, batch: Batch, encoded: Encoded, rejected: int) -> None:
        self.tokens += len(encoded.ids.values)
        counts = Counts(
            records=len(batch.texts) + rejected,
            documents=len(encoded.ids),
            empty=encoded.empty,
            quarantined=rejected + len(encoded.failed),
            bytes=encoded.bytes,
            repaired=batch.repaired,
            untrained=encoded.untrained,
            lines=batch.lines_read,
        )
        self._add(number, counts)

    def _add(self, number: int, counts: Counts) -> None:
        self.total += counts
        of_part = self.counts.setdefault(number, Counts())
        of_part += counts

    def _reject(self, number: int, rejected: list[Rejected]) -> None:
        rejected = sorted(rejected, key=lambda reject: (reject.line, reject.byte))
        self.rejects.add({"part": number, **asdict(reject)} for reject in rejected)

    def _leave_out(self, number: int) -> None:
        reason = self.done.left_out[number]
        self._reject(number, [Rejected(0, -1, reason)])
        self._add(number, Counts(records=1, quarantined=1, fault=reason))

    def _broken(self, number: int, batch: Batch) -> None:
        """The end of a part that broke off: kept as far as it went, or left out as a whole."""
        if not self.job.settings.salvage:
            reason = f"{batch.fault}; nothing of it was taken, --salvage keeps what is before the break"
            self.broken.append((number, reason))
            return
        self._reject(number, [Rejected(batch.lines_read + 1, -1, batch.fault)])
        self._add(number, Counts(records=1, quarantined=1, fault=batch.fault))

    def _commit(self, then: tuple[int, int], end: bool = False) -> None:
        """Writes what waits, then the line of the journal that says so."""
        line: dict[str, Any] = {"next": then}
        files: list[Path] = []
        if self.rows.documents:
            entry, waste = self._write_shard()
            line |= {"shard": asdict(entry), "waste": waste}
            files += [self.job.out / name for name in (entry.name, entry.fields) if name]
        rejects = self.job.place.rejects(self.task.number, self.number)
        if self.rejects.put(rejects):
            files.append(rejects)
        line["files"] = {path.relative_to(self.job.out).as_posix(): path.stat().st_size for path in files}
        line["counts"] = {part: asdict(counts) for part, counts in self.counts.items()}
        if end:
            line["end"] = True
        self.journal.append(line)
        self.number += 1
        self._start()

    def _write_shard(self) -> tuple[ShardEntry, list[int]]:
        settings, place = self.job.settings, self.job.place
        dtype = id_dtype(self.tok.vocab_size)
        seed = settings.packing.seed + (self.task.number << 20) + self.number
        shard, waste = self.rows.shard(self.tok, dtype, seed, settings.words)
        fields = ""
        if self.job.names:
            path = place.fields(self.task.number, self.number)
            write_fields(path, self.rows.fields)
            fields = path.name
        entry = write_shard(
            place.shard(self.task.number, self.number),
            shard,
            dtype=dtype,
            vocab_size=self.tok.vocab_size,
            documents=self.rows.documents,
            fields=fields,
        )
        return entry, waste


def _rejected(batch: Batch, text: int, reason: str) -> Rejected:
    return Rejected.of(raw_bytes(batch.texts[text]), batch.lines[text], batch.bytes_at[text], reason)
