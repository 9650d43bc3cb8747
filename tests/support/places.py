"""Where a check of kernels runs: a device and an implementation."""

from typing import NamedTuple

import pytest


class Place(NamedTuple):
    """A device and the implementation asked for by name."""

    device: str
    backend: str


PLACES = [
    pytest.param(Place("cpu", "reference"), id="twin"),
    pytest.param(Place("cpu", "triton"), id="interpreter", marks=pytest.mark.interpreter),
    pytest.param(Place("cuda", "triton"), id="cuda", marks=pytest.mark.gpu),
]
HOPPER = pytest.param(Place("cuda", "hopper"), id="hopper", marks=pytest.mark.gpu)
