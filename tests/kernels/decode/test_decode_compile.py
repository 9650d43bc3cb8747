"""The decode kernels compile for sm_90 without a GPU, for both widths of their integers, and spill nothing."""

import re

import pytest

pytest.importorskip("triton")

from offline import compiled

from tersely.kernels.decode.operators import BLOCK, PART
from tersely.kernels.decode.triton_decode import add_parts, attend_parts

POINTERS = dict.fromkeys(("part_out", "part_sum", "part_max", "sink"), "*fp32")


def used(kernel, integers, dtype, constants):
    kinds = POINTERS | dict(scale="fp32", softcap="fp32", start=f"*{integers}", length=f"*{integers}")
    kinds |= dict.fromkeys(("q", "k", "v", "out"), f"*{dtype}")
    names = [parameter.name for parameter in kernel.params if not parameter.is_constexpr]
    signature = {name: kinds.get(name, "i32") for name in names}
    strides = ("q_row", "q_head", "k_row", "k_head", "v_row", "v_head")
    aligned = [name for name, kind in signature.items() if kind.startswith("*") or name in strides]
    return compiled(kernel, signature, constants, aligned=aligned)


@pytest.mark.parametrize(
    ("integers", "dtype", "D", "capped"),
    [("i32", "bf16", 128, False), ("i64", "bf16", 64, True), ("i64", "fp32", 64, False)],
)
def test_parts_compile_and_spill_nothing(integers, dtype, D, capped):
    sizes = dict(KH=8, G=4, D=D, WIDTH=D)
    found = used(
        attend_parts, integers, dtype,
        sizes | dict(ROWS=16, BLOCK=BLOCK, PART=PART, CAPPED=capped, EXACT=dtype == "fp32"),
    )  # fmt: skip
    assert found.spills == 0
    assert len(re.findall(r"LDGSTS\.E\.\S*128", found.sass)) >= 4


@pytest.mark.parametrize("sink", [False, True])
def test_sums_compile_and_spill_nothing(sink):
    found = used(add_parts, "i32", "bf16", dict(KH=8, G=4, D=128, WIDTH=128, SINK=sink))
    assert found.spills == 0
