"""Nothing is left running: whole programs that use an executor are interrupted, killed, or badly written."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")

RUN = """
import os, sys, time
import tasks
from tersely.corpus.executors import LocalExecutor
def run(*deeds):
    for outcome in LocalExecutor(2).run(tasks.do, deeds):
        print(outcome.result, outcome.died, flush=True)
"""


class Program:
    """A Python program in a session of its own, all processes of which carry a mark."""

    def __init__(self, root, arguments, **more):
        self.mark = uuid.uuid4().hex
        path = os.pathsep.join([str(root), str(root / "tests/support")])
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": path, "MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **more,
        )

    def all_processes(self):
        """The ids of those that are there; a zombie is none, for it has no environment."""
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if self._is_ours(path)]

    def all_are_gone(self, seconds):
        end = time.monotonic() + seconds
        while self.all_processes() and time.monotonic() < end:
            time.sleep(0.02)
        return not self.all_processes()

    def end(self, seconds=60):
        """Exit code, standard output and standard error."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err

    def _is_ours(self, path):
        try:
            return f"MARK={self.mark}".encode() in path.read_bytes().split(b"\0")
        except OSError:
            return False


@pytest.fixture
def program(root):
    started = []

    def start(*arguments, **more):
        started.append(Program(root, arguments, **more))
        return started[-1]

    yield start
    for one in started:
        for pid in one.all_processes():
            os.kill(pid, signal.SIGKILL)
        one.process.communicate()


@pytest.fixture
def script(tmp_path, program):
    def start(code):
        path = tmp_path / "script.py"
        path.write_text(RUN + code)
        return program(str(path))

    return start


def test_a_killed_program_leaves_no_process_even_if_work_holds_the_interpreter(script):
    running = script("run(1, 'wait', 'hold the interpreter')")
    assert running.process.stdout.readline() == "1 \n"
    time.sleep(0.2)
    assert len(running.all_processes()) >= 4  # the program, its fork server, two workers
    running.process.kill()
    assert running.all_are_gone(seconds=5)


def test_ctrl_c_ends_all_soon_with_one_traceback(script):
    running = script("run(1, 'wait', 'hold the interpreter')")
    assert running.process.stdout.readline() == "1 \n"
    os.killpg(running.process.pid, signal.SIGINT)
    code, _, err = running.end(seconds=10)
    assert (code, err.count("Traceback")) == (-signal.SIGINT, 1)
    assert running.all_are_gone(seconds=5)


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.6])
def test_ctrl_c_at_the_start_has_one_traceback_too(script, delay):
    running = script("print('started', flush=True); run('wait', 'wait')")
    assert running.process.stdout.readline() == "started\n"
    time.sleep(delay)
    os.killpg(running.process.pid, signal.SIGINT)
    code, _, err = running.end(seconds=10)
    assert (code, err.count("Traceback")) == (-signal.SIGINT, 1), err
    assert running.all_are_gone(seconds=5)


def test_a_signal_handler_that_exits_ends_all(script):
    running = script(
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); run(1, 'wait', 'wait')"
    )
    assert running.process.stdout.readline() == "1 \n"
    running.process.terminate()
    assert running.end(seconds=10) == (143, "", "")
    assert running.all_are_gone(seconds=5)


def test_a_program_that_forgets_its_generator_ends(script):
    running = script(
        "outcomes = LocalExecutor(2).run(tasks.do, [1, 'wait', 'wait']); print(next(outcomes).result)"
    )
    assert running.end(seconds=20) == (0, "1\n", "")
    assert running.all_are_gone(seconds=5)


def test_a_script_needs_no_guard_for_work_of_a_module(script):
    assert script("print('once'); run(3)").end() == (0, "once\n9 \n", "")


def test_a_script_without_guard_whose_work_is_its_own_is_told_so(script):
    code, _, err = script("def own(item): return item\nlist(LocalExecutor(2).run(own, [1, 2, 3]))").end()
    assert code == 1
    assert "ExecutorError: a worker ended before it began (exit code 1)" in err
    assert "if __name__ == '__main__'" in err.splitlines()[-1]


def test_a_guarded_script_may_have_work_of_its_own(script):
    guarded = "def own(item): return -item\nif __name__ == '__main__': print([o.result for o in LocalExecutor(1).run(own, [1, 2])])"
    assert script(guarded).end() == (0, "[-1, -2]\n", "")


def test_work_of_python_c_is_told_that_it_cannot_be_loaded(program):
    own = "def own(item): return item\nrun(3)\nlist(LocalExecutor(2).run(own, [1, 2, 3]))"
    code, out, err = program("-c", RUN + own).end()
    assert (code, out) == (1, "9 \n")
    assert "UsageError: the workers cannot load the work" in err
    assert err.count("Traceback") == 1


def test_a_module_that_cannot_be_preloaded_is_left_out(script):
    preloaded = "print(*LocalExecutor(1, preload=['no_such_module', 'json']).run(tasks.square, [3]))"
    assert script(preloaded).end() == (0, "Outcome(item=3, result=9, error=None, died='')\n", "")
