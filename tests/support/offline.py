"""Compiles Triton and Gluon kernels for Hopper without a GPU, and reads what they use of it."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource, GluonJITFunction

HOPPER = GPUTarget("cuda", 90, 32)


class Resources(NamedTuple):
    """What one compiled kernel uses."""

    registers: int
    """For each thread; 255 is all there are."""
    spills: int
    """Bytes of stack for each thread, which is where registers are spilled to."""
    shared: int
    """Bytes of shared memory for each program, 233,472 at most on Hopper."""
    sass: str
    """The disassembly, to look for instructions in."""


def compiled(kernel, signature, constexprs, num_warps=4, num_stages=3, aligned=()):
    """Compiles ``kernel`` for sm_90 and returns its Resources.

    ``signature`` has a type for each argument that is no constexpr (``*bf16``, ``i32``, ...); those named in ``aligned``
    are divisible by 16, as Triton finds out by itself for pointers and strides when it launches a kernel.
    """
    names = kernel.arg_names
    types = {name: signature.get(name, "constexpr") for name in names}
    missing = [name for name, kind in types.items() if kind == "constexpr" and name not in constexprs]
    assert not missing, f"{kernel.__name__} needs {missing}"
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = GluonASTSource if isinstance(kernel, GluonJITFunction) else ASTSource
    binary = triton.compile(
        source(kernel, types, dict(constexprs), attributes),
        target=HOPPER,
        options={"num_warps": num_warps, "num_stages": num_stages},
    )
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(binary.asm["cubin"])
        usage, sass = _run("cuobjdump", "-res-usage", cubin), _run("nvdisasm", "-c", cubin)
    registers, stack = (int(re.search(rf"{field}:(\d+)", usage)[1]) for field in ("REG", "STACK"))
    return Resources(registers, stack, binary.metadata.shared, sass)


def _run(tool, *arguments):
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=True).stdout
