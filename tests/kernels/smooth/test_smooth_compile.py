"""The scans compile for sm_90 without a GPU and spill nothing."""

import pytest

pytest.importorskip("triton")

from offline import compiled

from tersely.kernels.smooth import triton_scan

WIDE = dict.fromkeys(("decay", "weight", "carry", "decays", "of_decay", "of_weight"), "*fp32")
VALUES = dict.fromkeys(("source", "out", "values", "states"), "*bf16")


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_compile_and_spill_nothing(reverse):
    for name, constants in {
        "_ends": dict(REVERSE=reverse, L=64, BLOCK=64),
        "_positions": dict(REVERSE=reverse, L=64, BLOCK=64),
        "_carry": dict(CHUNKS=64, BLOCK=32),
    }.items():
        kernel = getattr(triton_scan, name)
        names = [parameter.name for parameter in kernel.params if not parameter.is_constexpr]
        signature = {name: (WIDE | VALUES).get(name, "i32") for name in names}
        aligned = [name for name in names if signature[name].startswith("*") or name == "stride"]
        warps = triton_scan.WARPS if name == "_positions" else 4
        assert compiled(kernel, signature, constants, num_warps=warps, aligned=aligned).spills == 0, name
