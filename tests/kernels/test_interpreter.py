"""Runs what is marked ``interpreter`` in a session of its own: Triton reads TRITON_INTERPRET when it is imported."""

import os
import subprocess
import sys

import pytest


def test_kernels_do_in_the_interpreter_what_their_twins_do(root):
    pytest.importorskip("triton")
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
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
