"""Where a check of kernels runs: the twins, Triton's interpreter (a session of its own), or a GPU."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from places import PLACES

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if INTERPRETED:
    import interpreter

    interpreter.repair()


INTERPRETER_SESSION = pytest.StashKey()


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: "interpreter_session" in getattr(item, "fixturenames", ()))
    elsewhere = [item for item in items if bool(item.get_closest_marker("interpreter")) != INTERPRETED]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


def pytest_collection_finish(session):
    """Starts the interpreter's session beside this one, if its result is asked for at the end of it."""
    asked = any("interpreter_session" in getattr(item, "fixturenames", ()) for item in session.items)
    if asked and not session.config.option.collectonly and not hasattr(session.config, "workerinput"):
        start_interpreter_session(session.config)


def start_interpreter_session(config):
    log = Path(tempfile.mkdtemp()) / "interpreter.log"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "interpreter",
        "-p",
        "no:cacheprovider",
        "tests/kernels",
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(config.rootpath)}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=config.rootpath, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    config.stash[INTERPRETER_SESSION] = process, log


def pytest_sessionfinish(session):
    process, log = session.config.stash.get(INTERPRETER_SESSION, (None, None))
    if process is not None:
        process.kill()
        process.wait()
        shutil.rmtree(log.parent)


@pytest.fixture
def interpreter_session(request):
    """The exit code and the output of the session that runs in Triton's interpreter."""
    if INTERPRETER_SESSION not in request.config.stash:  # one of several workers, which do not start it ahead
        start_interpreter_session(request.config)
    process, log = request.config.stash[INTERPRETER_SESSION]
    return process.wait(), log.read_text()


@pytest.fixture(params=PLACES)
def place(request):
    """Each device and backend that a check runs on."""
    return request.param


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _poison():
    """Fills what ``torch.empty`` returns with NaN (and integers with their largest value): all must be written."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
