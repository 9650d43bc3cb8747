"""Attention has one more place to run: Hopper's own kernels."""

import pytest
from places import HOPPER, PLACES


@pytest.fixture(params=[*PLACES, HOPPER])
def place(request):
    """Each device and backend that a check runs on."""
    return request.param
