"""The folder of a job while it runs: who may write there, what it found from a run before, and the names of its files.

    out/data-00003-00000.arrow            the first shard of task 3
    out/documents-00003-00000.arrow       the fields of its documents
    out/tokenizer/                        a copy of the tokenizer
    out/.work/plan.json                   the plan
    out/.work/journal-00003.jsonl         what task 3 has done
    out/.work/rejects-00003-00000.jsonl   records that are no documents, of one line of that journal
    out/.work/at-00003                    where task 3 is just now
    out/.work/lock                        held while a process writes here

All of ``.work`` is removed once the manifest is written.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tersely.corpus.job.plan import JobPlan, check_same, differ_in_content
from tersely.errors import CorpusError
from tersely.load import load_tokenizer
from tersely.shards import Journal, Manifest
from tersely.shards.atomic import TEMPORARY, replace_file, sync_folder
from tersely.shards.manifest import MANIFEST_NAME
from tersely.tokenize import Tokenizer

_WORK = ".work"
_OURS = re.compile(r"(data|documents)-\d{5,}-\d{5,}\.arrow|\.tmp-[0-9a-f]{32}")
_WORKS = re.compile(
    r"plan\.json|(merge\.|entry\.)?lock|lock-\d+-of-\d+|journal-\d{5,}\.jsonl|rejects-\d{5,}-\d{5,}\.jsonl|at-\d{5,}|"
    r"\.tmp-[0-9a-f]{32}"
)


class Place:
    """The files of a job in the folder ``out``."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.work = out / _WORK

    def shard(self, task: int, number: int) -> Path:
        """A shard of a task."""
        return self.out / f"data-{task:05d}-{number:05d}.arrow"

    def fields(self, task: int, number: int) -> Path:
        """The fields of that shard's documents."""
        return self.out / f"documents-{task:05d}-{number:05d}.arrow"

    def rejects(self, task: int, number: int) -> Path:
        """The rejected records that go with a line of the task's journal."""
        return self.work / f"rejects-{task:05d}-{number:05d}.jsonl"

    def has(self, name: str, size: int) -> bool:
        """Whether there is a plain file of this size, named by its path in the folder."""
        path = self.out / name
        return path.is_file() and not path.is_symlink() and path.stat().st_size == size

    def journal(self, task: int) -> Journal:
        """What a task has done."""
        return Journal(self.work / f"journal-{task:05d}.jsonl")

    def position(self, task: int) -> Path:
        """Where a task is just now."""
        return self.work / f"at-{task:05d}"

    @contextmanager
    def claimed(
        self, plan: JobPlan, share: tuple[int, int], *, allow_changed: bool, again: bool
    ) -> Generator[None]:
        """Makes the folder that of ``plan``, for this process alone, or for it and those with other shares; what was done
        before counts if all inputs can be read ``again``.

        Raises:
            CorpusError: the folder is in use, or holds something else than this plan's run.
        """
        self._make(self.out)
        found = set(os.listdir(self.out)) - {_WORK}
        self._check_work()
        known = self._plan_found()
        if known is None and found:
            held = "a corpus without the files of its run" if "tokenizer" in found else "other files"
            raise CorpusError(
                f"{self.out} is not empty (it holds {held}): choose another --out, or remove it first"
            )
        self._make(self.work)
        with ExitStack() as stack:
            stack.enter_context(_locked(self.work / "lock", shared=share[1] > 1))
            if share[1] > 1:
                stack.enter_context(self._share_locked(share))
            self._settle(plan, allow_changed)
            if not again:  # what was read of a pipe then is not what comes now
                self._forget(range(len(plan.tasks)))
            if share[1] > 1:
                yield
                return
            self._sweep()
            try:
                yield
            finally:
                self._sweep()  # processes that were killed leave what they were writing

    @contextmanager
    def _share_locked(self, share: tuple[int, int]) -> Generator[None]:
        """Holds the lock of a share; refused while others work in another number of shares."""
        with ExitStack() as stack:
            with _locked(self.work / "entry.lock", wait=True):
                stack.enter_context(_locked(self.work / f"lock-{share[0]}-of-{share[1]}"))
                for path in self.work.glob("lock-*-of-*"):
                    if not path.name.endswith(f"-of-{share[1]}"):
                        with _locked(path):  # nobody's, or this is refused
                            pass
                        path.unlink()
            yield

    def _check_work(self) -> None:
        """Raises CorpusError if what has the name of our work folder is another's."""
        if self.work.is_symlink() or (self.work.exists() and not self.work.is_dir()):
            raise CorpusError(
                f"{self.work} is not a folder of a run: choose another --out, or remove it first"
            )
        strangers = [name for name in self._in_work() if not _WORKS.fullmatch(name)]
        if strangers:
            raise CorpusError(
                f"{self.work} holds {strangers[0]!r}, which no run made: choose another --out, or remove it first"
            )

    def _in_work(self) -> list[str]:
        return os.listdir(self.work) if self.work.is_dir() else []

    def _settle(self, plan: JobPlan, allow_changed: bool) -> None:
        """Writes the plan if there is none, or checks that the one that is there is the same."""
        content = plan.content | {"stamps": plan.stamps}
        old = self._plan_found()
        if old is None:
            self._write_once("plan.json", content)
            old = self._plan_found() or {}
        changed = [
            plan.sources[number]["name"]
            for number, (before, now) in enumerate(zip(old.get("stamps", []), plan.stamps, strict=False))
            if before != now
        ]
        if allow_changed and differ_in_content(old, content):
            self._change_plan(old, content)
            return
        check_same(old, plan, self.out)
        if changed:
            raise CorpusError(
                f"{changed[0]} was changed since the run in {self.out} began: use --allow-changed to do again what was "
                "made of it, or choose another --out"
            )

    def _change_plan(self, old: dict[str, Any], content: dict[str, Any]) -> None:
        """Puts another plan in the place of one whose inputs changed; tasks without a changed input stay done."""

        def task(plan: dict[str, Any], number: int) -> Any:
            parts: list[list[int]] = plan["tasks"][number] if number < len(plan["tasks"]) else []
            return [[part, plan["sources"][part[0]], plan["stamps"][part[0]]] for part in parts]

        most = max(len(old["tasks"]), len(content["tasks"]))
        self._forget(number for number in range(most) if task(old, number) != task(content, number))
        replace_file(self.work / "plan.json", json.dumps(content).encode())

    def _forget(self, tasks: Iterable[int]) -> None:
        for task in tasks:
            journal = self.journal(task)
            lines = len(journal.read())
            journal.path.unlink(missing_ok=True)
            self.remove(task, range(lines + 1))

    def remove(self, task: int, numbers: Iterable[int]) -> None:
        """Removes what a task wrote under these numbers, if anything."""
        for number in numbers:
            for path in (self.shard, self.fields, self.rejects):
                path(task, number).unlink(missing_ok=True)

    def _plan_found(self) -> dict[str, Any] | None:
        try:
            content = json.loads((self.work / "plan.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CorpusError(
                f"{self.work / 'plan.json'} cannot be read: {error}; remove {self.out}"
            ) from error
        return content if isinstance(content, dict) else {}

    def _write_once(self, name: str, content: dict[str, Any]) -> None:
        """Writes a file of the work folder unless another process was first."""
        temporary = self.work / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                file.write(json.dumps(content).encode())
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, self.work / name)
            sync_folder(self.work)
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)

    def save_tokenizer(self, tok: Tokenizer) -> None:
        """Puts a copy of the tokenizer into the folder, if it is not there already."""
        final = self.out / "tokenizer"
        if final.exists():
            if load_tokenizer(final).fingerprint != tok.fingerprint:
                raise CorpusError(
                    f"{final} is not the tokenizer of this job: remove {self.out}, or choose another --out"
                )
        else:
            temporary = self.work / f"{TEMPORARY}{uuid.uuid4().hex}"
            tok.save(temporary)
            for path in temporary.rglob("*"):
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            try:
                temporary.rename(final)
            except OSError:  # another process was first
                shutil.rmtree(temporary)
            sync_folder(self.out)

    def _sweep(self) -> None:
        """Removes unfinished files of a run that was killed."""
        work = self.work.iterdir() if self.work.is_dir() else ()
        for path in [*self.out.iterdir(), *work]:
            if path.name.startswith(TEMPORARY) and _OURS.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def strangers(self, known: set[str]) -> Iterator[Path]:
        """Files that this job made and its manifest will not name."""
        for path in self.out.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in known:
                yield path

    def finished(self) -> Manifest | None:
        """The manifest, if the folder has one."""
        return Manifest.load(self.out) if (self.out / MANIFEST_NAME).exists() else None

    def clear(self) -> None:
        """Removes the files of the run; to be called when the manifest is written."""
        if self.work.is_symlink():
            return
        for name in self._in_work():
            if _WORKS.fullmatch(name):
                path = self.work / name
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(
                    missing_ok=True
                )
        if self.work.is_dir() and not self._in_work():
            self.work.rmdir()

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CorpusError(f"{folder} cannot be made: {error.strerror}") from error


@contextmanager
def _locked(path: Path, shared: bool = False, wait: bool = False) -> Generator[None]:
    """Holds a lock that the system gives back when the process ends, however it ends."""
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            file.seek(0)
            owner = file.read().decode("utf-8", "replace").strip() or "another process"
            raise CorpusError(
                f"{path.parent.parent} is being written by {owner}: wait for it, or choose another --out"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield


def merge_lock(place: Place) -> Any:
    """Held by the one process that finishes a job done in shares; others wait, and find it finished."""
    return _locked(place.work / "merge.lock", wait=True)
