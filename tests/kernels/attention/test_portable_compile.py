"""The portable kernels are compiled for sm_90 without a GPU: no spills, and products on the asynchronous matrix units."""

import pytest

pytest.importorskip("triton")

from offline import compiled

from tersely.kernels.attention.triton import launch
from tersely.kernels.attention.triton.backward import attention_backward, attention_rows
from tersely.kernels.attention.triton.forward import attention_forward
from tersely.kernels.attention.triton.short import attention_backward_short
from tersely.kernels.attention.triton.table import attention_table

PLAIN = dict(TREE=False, GATE=False, CAP=False, BIAS=False, R=0)
BIASED = PLAIN | dict(BIAS=True, R=128)
EVERYTHING = dict(TREE=True, GATE=True, CAP=True, BIAS=False, R=0)
# Bytes of stack for each thread that a kernel may spill, plain and with everything that adds to a score.
SPILLS = {("backward", 128): (40, 144), ("backward", 256): (0, 64), ("forward", 256): (0, 16)}


def tile(rows, width, kind="bf16"):
    return f"tensordesc<{kind}[{rows}, {width}]>"


def written(rows, width):
    return f"tensordesc<bf16[{rows}, 1, {width}]>"


def absent(kernel, options):
    """Arguments that are None without a bias."""
    names = {"bias_ptr", "query_positions_ptr", "key_positions_ptr", "far_ptr"} & set(kernel.arg_names)
    return {} if options["BIAS"] else dict.fromkeys(names)


def signature_of(kernel, descriptors, without=()):
    floats = dict.fromkeys(
        (
            "bias_ptr",
            "far_ptr",
            "sums_ptr",
            "lse_ptr",
            "sink_ptr",
            "gate_ptr",
            "dgate_ptr",
            "dlse_ptr",
            "rows_ptr",
        ),
        "*fp32",
    )
    numbers = dict(scale="fp32", cap="fp32")
    kinds = {**floats, **numbers, **descriptors}
    return {
        parameter.name: kinds.get(parameter.name, "*i32" if parameter.name.endswith("_ptr") else "i32")
        for parameter in kernel.params
        if not parameter.is_constexpr and parameter.name not in without
    }


def aligned(signature):
    return [name for name, kind in signature.items() if kind.startswith("*")]


def forward(D, tiles, **options):
    descriptors = dict(
        q_desc=tile(tiles.BM, D),
        k_desc=tile(tiles.BN, D),
        v_desc=tile(tiles.BN, D),
        out_desc=written(tiles.BM, D),
    )
    signature = signature_of(attention_forward, descriptors, absent(attention_forward, options))
    constants = dict(
        BM=tiles.BM,
        BN=tiles.BN,
        D=D,
        DP=D,
        SINK=options["GATE"],
        **options,
        **absent(attention_forward, options),
    )
    return compiled(attention_forward, signature, constants, tiles.warps, tiles.stages, aligned(signature))


def backward(D, tiles, **options):
    descriptors = dict(
        q_desc=tile(tiles.BM, D), dout_desc=tile(tiles.BM, D), k_steps=tile(tiles.BN2, D), v_steps=tile(tiles.BN2, D),
        dq_desc=written(tiles.BM, D), k_desc=tile(tiles.BN, D), v_desc=tile(tiles.BN, D), q_steps=tile(tiles.BM1, D),
        dout_steps=tile(tiles.BM1, D), rows_steps=tile(1, tiles.BM1, "fp32"), dk_desc=written(tiles.BN, D),
        dv_desc=written(tiles.BN, D),
    )  # fmt: skip
    signature = signature_of(attention_backward, descriptors, absent(attention_backward, options))
    constants = dict(
        BN=tiles.BN,
        BM1=tiles.BM1,
        BM=tiles.BM,
        BN2=tiles.BN2,
        D=D,
        DP=D,
        **options,
        **absent(attention_backward, options),
    )
    return compiled(attention_backward, signature, constants, tiles.warps, tiles.stages, aligned(signature))


def table(D, tiles, **options):
    descriptors = dict(
        q_desc=tile(tiles.BM, D),
        dout_desc=tile(tiles.BM, D),
        k_desc=tile(tiles.BN2, D),
        v_desc=tile(tiles.BN2, D),
    )
    signature = signature_of(attention_table, descriptors)
    constants = dict(BM=tiles.BM, BN=tiles.BN2, D=D, DP=D, TABLE=512, W=launch.LOOKED_UP, **options)
    return compiled(attention_table, signature, constants, tiles.warps, 1, aligned(signature))


def short(D):
    tiles = launch.ShortTiles()
    inputs = ("q", "dout", "out", "k", "v")
    kinds = {f"{name}_steps": tile(tiles.BS, D) for name in inputs} | {
        f"{name}_ptr": "*bf16" for name in inputs
    }
    signature = signature_of(
        attention_backward_short, kinds | {f"{name}_desc": written(tiles.W, D) for name in ("dq", "dk", "dv")}
    )
    strides = [name for name in signature if name.endswith("_stride")]
    constants = dict(W=tiles.W, BS=tiles.BS, D=D, DP=D)
    return compiled(
        attention_backward_short,
        signature,
        constants,
        tiles.warps,
        tiles.stages,
        aligned(signature) + strides,
    )


@pytest.mark.parametrize("D", [64, 128])
def test_the_backward_of_short_documents_keeps_two_programs_on_a_multiprocessor(D):
    used = short(D)
    assert used.spills == 0
    assert used.sass.count("HGMMA") > 0
    assert used.sass.count("LDG.E.128") >= 5 * D // 16  # the tiles of a program, 16 bytes at a time
    assert 2 * (used.shared + 1024) <= 227 * 1024


@pytest.mark.parametrize("options", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("D", [64, 128, 256])
def test_kernels_keep_to_their_registers(D, options):
    for name, used in (
        ("forward", forward(D, launch.forward_tiles(D), **options)),
        ("backward", backward(D, launch.backward_tiles(D), **options)),
    ):
        allowed = SPILLS.get((name, D), (0, 0))[options is EVERYTHING]
        assert used.spills <= allowed, f"{name} {D}: {used.spills} bytes"
        assert used.sass.count("HGMMA") > 0
        assert used.shared <= 227 * 1024


def test_row_statistics_are_read_16_bytes_at_a_time():
    signature = signature_of(attention_rows, dict(out_desc=tile(64, 128), dout_desc=tile(64, 128)))
    used = compiled(
        attention_rows, signature, dict(BM=64, D=128, DP=128, DLSE=False), 4, 3, aligned(signature)
    )
    assert used.spills == 0
    assert used.sass.count("UTMALDG") == 2


@pytest.mark.parametrize("D", [64, 128])
def test_kernels_with_a_bias_by_distance_keep_to_their_registers(D):
    tiles = launch.backward_tiles(D, biased=True)
    for used in (
        forward(D, launch.forward_tiles(D, biased=True), **BIASED),
        backward(D, tiles, **BIASED),
        table(D, tiles, TREE=False, GATE=False, CAP=False, R=128),
    ):
        assert used.spills == 0
        assert used.sass.count("HGMMA") > 0
        assert used.shared <= 227 * 1024
