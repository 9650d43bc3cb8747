"""What is marked ``interpreter`` runs in a session of its own: Triton reads TRITON_INTERPRET when it is imported."""

import pytest

pytest.importorskip("triton")


def test_kernels_do_in_the_interpreter_what_their_twins_do(interpreter_session):
    code, output = interpreter_session
    assert code == 0, output[-8000:]
    assert " passed" in output
