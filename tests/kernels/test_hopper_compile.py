"""The Hopper kernels are compiled for sm_90a, without a GPU: they use its matrix units, and spill no more than recorded.

Registers are what these kernels are short of: a change that costs a few shows here as spills, or as matrix products
that the assembler puts in series, long before it shows as time.
"""

import json
import os
import subprocess
import sys

import pytest

from tersely.kernels.attention.hopper.gluon import unsupported

# name: bytes of stack for each thread, at most
RECORDED = {
    "forward D128": 32,
    "forward D128 short": 0,
    "forward D64": 24,
    "backward D128": 48,
    "backward D64": 0,
}

COMPILE = """
import json, re, subprocess, sys, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from tersely.kernels.attention.hopper import backward, forward, launch
from tersely.kernels.attention.hopper.gluon import GluonASTSource, gl

def descriptor(rows, columns, kind="bf16"):
    dtype = gl.float32 if kind == "fp32" else gl.bfloat16
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], dtype)
    return f"tensordesc<{kind}[{rows}, {columns}],{layout!r}>"

name = sys.argv[1]
D = 128 if "D128" in name else 64
if name.startswith("forward"):
    kernel = forward.attention_forward
    constants = dict(launch.forward_config(D, 100.0 if "short" in name else None), D=D, SINK="sink" in name)
    rows = {"q_desc": 64, "k_desc": constants["BN"], "v_desc": constants["BN"], "o_desc": 64}
    descriptors = {n: descriptor(r, D) for n, r in rows.items()}
    pointers = {"lse_ptr": "*fp32", "sink_ptr": "*fp32"}
else:
    kernel = backward.attention_backward
    constants = dict(launch.backward_config(D), D=D)
    rows = ("q_desc", "do_desc", "k_desc", "v_desc", "dk_desc", "dv_desc")
    descriptors = {n: descriptor(64, D) for n in rows} | {"dq_desc": descriptor(128, 32, "fp32")}
    pointers = {"lse_ptr": "*fp32", "delta_ptr": "*fp32"}
pointers |= {n: "*i32" for n in ("key_start", "key_stop", "query_start", "query_stop", "tiles", "counter")}
names = kernel.arg_names
kinds = {**descriptors, **pointers, "scale": "fp32", "scale2": "fp32", **dict.fromkeys(constants, "constexpr")}
signature = {n: kinds.get(n, "i32") for n in names}
aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n].startswith("*")}
source = GluonASTSource(kernel, signature, {(names.index(n),): v for n, v in constants.items()}, aligned)
compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
tools = Path(triton.__file__).parent / "backends/nvidia/bin"
with tempfile.TemporaryDirectory() as folder:
    cubin = Path(folder, "kernel.cubin")
    cubin.write_bytes(compiled.asm["cubin"])
    dump = [tools / "cuobjdump", "-sass", "-res-usage", cubin]
    sass = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
print(json.dumps({
    "stack": int(re.search(r"STACK:(\\d+)", sass).group(1)),
    "products": sass.count("HGMMA"),
    "groups": sass.count("WARPGROUP.ARRIVE"),
    "shared": compiled.metadata.shared,
}))
"""


@pytest.mark.skipif(unsupported() is not None, reason=f"{unsupported()}")
@pytest.mark.parametrize("name", RECORDED)
def test_kernel_keeps_to_its_registers_and_its_products_stay_asynchronous(name, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", COMPILE, name], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["products"] > 2 * found["groups"] > 0, "each product waits for the one before"
    assert found["stack"] <= RECORDED[name], f"{found['stack']} bytes of stack"
    assert found["shared"] <= 227 * 1024
