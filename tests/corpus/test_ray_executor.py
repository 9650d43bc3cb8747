"""Executors on Ray: a real cluster of two nodes on this machine, one of which is killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import tasks

from tersely.corpus.executors import Outcome, RayExecutor
from tersely.errors import ExecutorError, UsageError

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tersely[ray]'")


@pytest.fixture(scope="module", autouse=True)
def environment():
    """For all of Ray's processes: where the modules are, and no token in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield patch


@pytest.fixture(scope="module")
def cluster(environment):
    """A cluster whose two nodes have a processor each, at RAY_ADDRESS."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.worker = made.add_node(num_cpus=1, include_dashboard=False)
    environment.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


def test_each_item_has_its_outcome_whatever_it_does(cluster):
    items = [*range(10), "value error", "panic", "unreadable", "sys.exit", "kill", "exit 3"]
    found = {outcome.item: outcome for outcome in RayExecutor().run(tasks.do, items)}
    assert all(found.pop(number) == Outcome(number, number * number) for number in range(10))
    assert str(found["value error"].error) == "no such value"
    assert isinstance(found["value error"].error, ValueError)
    assert isinstance(found["sys.exit"].error, SystemExit)
    assert "index out of bounds" in str(found["panic"].error)
    assert str(found["unreadable"].error) == "tasks.Unreadable: this and that"
    assert {found[deed].died for deed in ("kill", "exit 3")} == {"its process ended"}
    assert not ray.is_initialized()


def test_work_may_be_written_where_it_is_used(cluster):
    class Local:
        pass

    outcomes = list(RayExecutor().run(lambda item: (item, Local()), [1, 2, threading.Lock()]))
    assert sorted(o.item for o in outcomes if o.error is None) == [1, 2]
    assert sum(o.error is not None for o in outcomes) == 1
    with pytest.raises(UsageError, match="lock"):
        next(RayExecutor().run(threading.Lock().acquire, [1]))


def test_work_that_a_node_cannot_load_says_what_is_missing(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def work(item): return item")
    monkeypatch.syspath_prepend(tmp_path)
    (outcome,) = RayExecutor().run(__import__("only_here").work, [1])
    assert "No module named 'only_here'" in str(outcome.error)
    assert "PYTHONPATH" in str(outcome.error)


def test_items_are_taken_as_processors_get_free(cluster):
    taken = []

    def items():
        for number in range(12):
            taken.append(number)
            yield number

    for done, _ in enumerate(RayExecutor().run(tasks.square, items())):
        assert len(taken) <= done + 2
    assert len(taken) == 12


def test_closing_ends_what_the_cluster_runs_for_us(cluster, tmp_path):
    outcomes = RayExecutor(cluster.address).run(tasks.touch_and_wait, [tmp_path / "one", tmp_path / "two"])
    starter = threading.Timer(0, lambda: [_wait_for(tmp_path / "two"), (tmp_path / "one.go").touch()])
    starter.start()
    assert next(outcomes).result == "one"
    starter.join()
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < 15
    assert _until(lambda: not _is_there(int((tmp_path / "two").read_text())))


def test_the_handler_of_sigterm_stays_ours(cluster):
    before = signal.getsignal(signal.SIGTERM)
    assert [o.result for o in RayExecutor().run(tasks.square, [3])] == [9]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_handler_that_exits_keeps_its_exit_code(cluster):
    program = (
        "import signal, sys, tasks; from tersely.corpus.executors import RayExecutor;"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143));"
        "[print(o.result, flush=True) for o in RayExecutor().run(tasks.do, [1, 'wait'])]"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout.readline() == "1\n"
    running.terminate()
    assert running.communicate(timeout=30) == ("", "")
    assert running.returncode == 143


def test_an_address_without_a_cluster_is_an_error():
    with pytest.raises(ExecutorError, match="no Ray cluster at 127"):
        next(RayExecutor("127.0.0.1:1").run(tasks.square, [3]))


def test_a_lost_node_costs_its_item_and_no_other(cluster, tmp_path):
    """Both nodes have an item when one is killed; it gets them again with the second run, as a caller would do it."""
    names = [tmp_path / str(number) for number in range(6)]

    def kill_a_node():
        at_work = [_wait_for(names[0]), _wait_for(names[1])]
        cluster.remove_node(cluster.worker, allow_graceful=False)
        assert _until(lambda: not all(map(_is_there, at_work)))
        for name in names:
            name.with_suffix(".go").touch()

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    outcomes = list(RayExecutor().run(tasks.touch_and_wait, names))
    killer.join()
    assert sorted(outcome.item for outcome in outcomes) == names
    (lost,) = [outcome for outcome in outcomes if outcome.died]
    assert lost == Outcome(lost.item, died="its node was lost")
    assert lost.item in names[:2]
    assert all(outcome.result == outcome.item.name for outcome in outcomes if not outcome.died)
    assert [outcome.result for outcome in RayExecutor().run(tasks.touch_and_wait, [lost.item])] == [
        lost.item.name
    ]


def test_without_an_address_a_cluster_is_started_and_ended(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert sorted(o.result for o in RayExecutor().run(tasks.square, range(5))) == [0, 1, 4, 9, 16]
    assert not ray.is_initialized()


def test_a_connection_of_the_program_is_used_and_left_open(cluster):
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert [o.result for o in RayExecutor("127.0.0.1:1").run(tasks.square, [3])] == [9]
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_without_ray_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'tersely\[ray\]'"):
        next(RayExecutor().run(tasks.square, [3]))


def _until(true):
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _wait_for(path):
    """The process that has written its id to the file, once it has."""
    assert _until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def _is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
