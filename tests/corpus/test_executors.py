"""The contract of executors: one outcome for each item, whatever happens to the process that has it."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing
from functools import partial

import pytest
import tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.corpus.executors import LocalExecutor, Outcome, SerialExecutor
from tersely.errors import ExecutorError, UsageError

EXECUTORS = [SerialExecutor(), LocalExecutor(1), LocalExecutor(3)]


def by_item(outcomes):
    """The outcomes by their items, of which each must have come once."""
    found = {}
    for outcome in outcomes:
        assert outcome.item not in found
        found[outcome.item] = outcome
    return found


def no_workers_are_left():
    return not multiprocessing.active_children()


def until(true, seconds=20):
    """Waits until a condition holds; whether it came to that."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_thousand_items_have_a_thousand_results(executor):
    found = by_item(executor.run(tasks.square, range(1000)))
    assert found == {number: Outcome(number, number * number) for number in range(1000)}
    assert no_workers_are_left()


@settings(max_examples=15)
@given(st.lists(st.binary(max_size=300_000).filter(lambda raw: len(raw) % 7) | st.just(b""), max_size=9))
def test_processes_give_what_one_process_gives(items):
    serial = sorted((o.item, o.result) for o in SerialExecutor().run(tasks.length, items))
    assert sorted((o.item, o.result) for o in LocalExecutor(2).run(tasks.length, items)) == serial


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    ("deed", "kind", "words"),
    [
        ("value error", ValueError, "no such value"),
        ("base", tasks.Misbehaviour, "badly"),
        ("panic", BaseException, "index out of bounds"),
    ],
)
def test_what_work_raises_is_the_error_of_its_item(executor, deed, kind, words):
    found = by_item(executor.run(tasks.do, [1, deed, 2]))
    assert (found[1].result, found[2].result) == (1, 4)
    assert isinstance(found[deed].error, kind)
    assert words in str(found[deed].error)
    assert (found[deed].result, found[deed].died) == (None, "")


def test_an_error_from_a_worker_says_where_it_was_raised():
    (outcome,) = LocalExecutor(1).run(tasks.do, ["value error"])
    assert "tasks.py" in "".join(outcome.error.__notes__)


@pytest.mark.parametrize(
    ("deed", "kind", "words"),
    [
        ("unreadable", ExecutorError, "tasks.Unreadable: this and that"),
        ("panic", ExecutorError, "pyo3_runtime.PanicException: index out of bounds"),
        ("sys.exit", SystemExit, "enough"),
        ("lambda", AttributeError, "pickle"),
        ("deep", RecursionError, "recursion"),
    ],
)
def test_what_cannot_be_carried_between_processes_is_an_error_and_no_hang(deed, kind, words):
    found = by_item(LocalExecutor(2).run(tasks.do, [1, deed, 2]))
    assert isinstance(found[deed].error, kind)
    assert words in str(found[deed].error)
    assert (found[1].result, found[2].result) == (1, 4)


def test_an_item_that_cannot_be_sent_is_an_error():
    def local():
        return 0

    found = by_item(LocalExecutor(1).run(tasks.do, [local, 2, "large"]))
    assert "local" in str(found[local].error)
    assert found[2].result == 4
    assert len(found["large"].result) == 10_000_000


def test_work_that_cannot_be_sent_is_wrong_usage():
    with pytest.raises(UsageError, match="at the top of a module"):
        next(LocalExecutor(1).run(lambda item: item, [1]))
    assert no_workers_are_left()


def test_work_may_be_anything_that_pickles():
    assert [o.result for o in LocalExecutor(1).run(partial(pow, 2), [3])] == [8]


@pytest.mark.parametrize(
    ("deed", "died"),
    [
        ("segfault", "killed by SIGSEGV"),
        ("exit 3", "exit code 3"),
        ("exit 0", "exit code 0"),
        ("kill", "killed by SIGKILL"),
    ],
)
def test_a_process_that_dies_costs_its_own_item_only(deed, died):
    found = by_item(LocalExecutor(2).run(tasks.do, [1, 2, deed, *range(3, 40)]))
    assert found[deed] == Outcome(deed, died=died)
    assert all(found[number].result == number * number for number in range(1, 40))


def test_every_worker_may_die_again_and_again():
    outcomes = list(LocalExecutor(2).run(tasks.do, ["kill"] * 10 + [3]))
    assert [o.died for o in outcomes].count("killed by SIGKILL") == 10
    assert [o.result for o in outcomes].count(9) == 1


def test_a_kill_from_outside_does_not_disturb_the_others(tmp_path):
    names = [tmp_path / name for name in ("one", "two", "three")]

    def kill_one():
        assert until(lambda: names[0].exists() and names[0].read_text() and names[1].exists())
        os.kill(int(names[0].read_text()), signal.SIGKILL)
        for name in names:
            name.with_suffix(".go").touch()

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = by_item(LocalExecutor(2).run(tasks.touch_and_wait, map(str, names)))
    killer.join()
    assert [found[str(name)].died for name in names] == ["killed by SIGKILL", "", ""]
    assert [found[str(name)].result for name in names] == [None, "two", "three"]


def test_a_worker_that_dies_while_it_is_free_costs_nothing():
    with closing(LocalExecutor(1).run(tasks.do, ["pid", 2, 3])) as outcomes:
        os.kill(next(outcomes).result, signal.SIGKILL)
        assert until(no_workers_are_left)
        assert [(o.result, o.died) for o in outcomes] == [(4, ""), (9, "")]


def test_workers_have_no_standard_input_and_ignore_ctrl_c():
    found = by_item(LocalExecutor(1).run(tasks.do, ["stdin", "interrupt", "pid"]))
    assert (found["stdin"].result, found["interrupt"]) == ("", Outcome("interrupt"))
    assert found["pid"].result != os.getpid()


@pytest.mark.parametrize("deed", ["wait", "hold the interpreter"])
def test_closing_ends_workers_that_would_work_for_ever(deed):
    outcomes = LocalExecutor(3).run(tasks.do, [1, deed, deed, deed, deed])
    assert next(outcomes).result == 1
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < 10
    assert no_workers_are_left()
    assert list(outcomes) == []


def test_an_exception_in_the_loop_ends_the_workers():
    with pytest.raises(ZeroDivisionError), closing(LocalExecutor(2).run(tasks.do, [1, "wait"])) as outcomes:
        for _ in outcomes:
            _ = 1 // 0
    assert no_workers_are_left()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_exception_of_the_items_comes_through(executor):
    def items():
        yield 1
        raise LookupError("no more files")

    with pytest.raises(LookupError, match="no more files"):
        list(executor.run(tasks.do, items()))
    assert no_workers_are_left()


@pytest.mark.parametrize(("executor", "most"), zip(EXECUTORS, [1, 1, 3], strict=True))
def test_items_are_taken_as_workers_get_free(executor, most):
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    for done, _ in enumerate(executor.run(tasks.square, items())):
        assert len(taken) <= done + most
    assert len(taken) == 50


def test_no_items_need_no_workers():
    assert list(LocalExecutor(2).run(tasks.square, [])) == []


def test_below_one_worker_is_wrong_usage():
    with pytest.raises(UsageError, match="at least 1"):
        LocalExecutor(0)


def test_a_system_that_gives_no_processes_is_an_error(monkeypatch):
    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", fail)
    with pytest.raises(ExecutorError, match="Too many open files"):
        list(LocalExecutor(2).run(tasks.square, [1]))


def test_workers_that_are_killed_before_they_begin_are_started_again_but_not_for_ever(monkeypatch):
    starts = []
    start = multiprocessing.context.ForkServerProcess.start

    def start_and_kill(process):
        start(process)
        starts.append(process)
        if len(starts) <= deaths:
            os.kill(process.pid, signal.SIGSTOP)
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", start_and_kill)
    deaths = 2
    assert [o.result for o in LocalExecutor(1).run(tasks.square, [7])] == [49]
    starts.clear()
    deaths = 1000
    with pytest.raises(ExecutorError, match="killed by SIGKILL"):
        list(LocalExecutor(1).run(tasks.square, [7]))
    assert len(starts) == 3
