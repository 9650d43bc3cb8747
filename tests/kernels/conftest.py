"""Where a check of kernels runs: the twins, Triton's interpreter (a session of its own), or a GPU."""

import os

import pytest
import torch
from places import PLACES

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if INTERPRETED:
    import interpreter

    interpreter.repair()


def pytest_collection_modifyitems(config, items):
    elsewhere = [item for item in items if bool(item.get_closest_marker("interpreter")) != INTERPRETED]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


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
