"""The kernels compile for Hopper, use no more of it than recorded, spill nothing, and move 16 bytes at a time."""

import pytest

pytest.importorskip("triton")

from packed_kernels import resources

from tersely.kernels.compact import triton_move, triton_plan
from tersely.kernels.loss import triton_cross_entropy
from tersely.kernels.rotary import triton_rotary
from tersely.kernels.segment import (
    triton_expand,
    triton_maxima,
    triton_softmax,
    triton_softmax_backward,
    triton_sums,
)
from tersely.kernels.smooth import triton_backward, triton_smooth, walk

TILE = {"ROWS": 8, "BLOCK": 512}
WALK = {"SPLIT": 128, "ROWS": 8, "BLOCK": 256}
JOIN = {"SPLIT": 128, "SHARED": 4}
ROTARY = {"BOUNDED": True, "POSITIONS": False, "INVERSE": False}
LOSS = {"NO_LABEL": -100, "CAP": True, "BLOCK": 4096}

# kernel, constexprs, registers it may use, loads and stores of 16 bytes that it must have
CASES = [
    (triton_sums._sums, {"MEAN": False} | WALK, 128, 16, 1),
    (triton_sums._join_sums, {"MEAN": True} | JOIN, 80, 8, 0),
    (triton_maxima._maxima, WALK, 136, 16, 1),
    (triton_maxima._join_maxima, JOIN, 168, 8, 0),
    (triton_expand._expand, {"MEAN": True, "SELECT": False, "SPLIT": 64, **TILE}, 48, 0, 4),
    (triton_expand._expand, {"MEAN": False, "SELECT": True, "SPLIT": 64, **TILE}, 64, 0, 4),
    (triton_softmax._pool, WALK, 160, 16, 1),
    (triton_softmax._join_pools, JOIN, 128, 8, 0),
    (triton_softmax_backward._pool_backward, {"SPLIT": 16, **TILE}, 168, 4, 4),
    (triton_move._move, TILE, 40, 4, 4),
    (triton_plan._count, {"BLOCK": 1024}, 32, 0, 0),
    (triton_plan._place, {"BLOCK": 1024}, 128, 0, 0),
    (triton_plan._invert, {"BLOCK": 1024}, 40, 0, 0),
    (triton_cross_entropy._losses, LOSS, 96, 2, 0),
    (triton_cross_entropy._gradients, LOSS, 96, 2, 2),
    (triton_rotary._rotary, ROTARY | {"INTERLEAVED": False, "BLOCK": 64, "ROWS": 16, "REST": 0}, 96, 4, 4),
    (triton_rotary._rotary, ROTARY | {"INTERLEAVED": True, "BLOCK": 32, "ROWS": 32, "REST": 64}, 96, 4, 4),
    (walk._ends, WALK | {"REVERSE": False}, 96, 8, 0),
    (walk._ends, WALK | {"REVERSE": True}, 96, 8, 0),
    (walk._carry, {"REVERSE": False, "AHEAD": 16, "BLOCK": 32}, 96, 0, 0),
    (triton_smooth._smooth, WALK, 112, 8, 8),
    (triton_backward._smooth_backward, WALK | {"ROWS": 4}, 136, 12, 4),
]


@pytest.mark.parametrize(
    ("kernel", "constexprs", "registers", "loads", "stores"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_uses_no_more_than_recorded(kernel, constexprs, registers, loads, stores):
    warps = 8 if constexprs is LOSS else 1 if constexprs.get("BLOCK") == WALK["BLOCK"] else 4
    used = resources(kernel, constexprs, num_warps=warps)
    assert used.spills == 0
    assert used.registers <= registers
    assert used.shared <= 16384
    assert used.sass.count("LDG.E.128") >= loads
    assert used.sass.count("STG.E.128") >= stores
