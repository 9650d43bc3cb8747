"""What torch asks of every operator, and that it is captured whole: by torch.compile, and by CUDA graphs."""

import subprocess
import sys

import pytest
import torch
from calls import boundaries, calls, results

from tersely.kernels.compact.operators import compact_plan, invert_rows, move_rows
from tersely.kernels.loss.cross_entropy import row_gradients, row_losses
from tersely.kernels.loss.packed import chunked
from tersely.kernels.rotary.operators import rotary_in_place, rotary_new
from tersely.kernels.segment.expand import expand_rows
from tersely.kernels.segment.pool import softmax_pool, softmax_pool_backward
from tersely.kernels.segment.reduce import reduce_rows, select_rows
from tersely.kernels.smooth.smooth import smooth_backward, smooth_rows

NAMES = list(calls())


def operator_calls():
    bounds = boundaries()
    values, weights = torch.randn(430, 6, requires_grad=True), torch.randn(430, 2, requires_grad=True)
    rows = torch.randn(6, 6, requires_grad=True)
    keep = torch.rand(430) < 0.5
    source, target, _ = compact_plan(keep, bounds, 250, "auto")
    pooled = softmax_pool(values.detach(), weights.detach(), bounds, "auto")
    yield expand_rows, (rows, bounds, 430, True, "auto")
    for kind in ("sum", "mean", "max"):
        yield reduce_rows, (values, bounds, kind, "auto")
    yield select_rows, (rows.detach(), torch.zeros(6, 6, dtype=torch.int32), bounds, 430, "auto")
    yield softmax_pool, (values, weights, bounds, "auto")
    yield softmax_pool_backward, (rows.detach(), values.detach(), weights.detach(), *pooled, bounds, "auto")
    shares = torch.rand(430, requires_grad=True)
    yield smooth_rows, (values, shares, bounds, "auto")
    smoothed = smooth_rows(values.detach(), shares.detach(), bounds, "auto")
    yield smooth_backward, (smoothed, values.detach(), shares.detach(), smoothed, bounds, "auto")
    yield compact_plan, (keep, bounds, 250, "auto")
    yield invert_rows, (source, 430, "auto")
    yield move_rows, (values, source, target, "auto")
    q, k = torch.randn(430, 4, 8, requires_grad=True), torch.randn(430, 2, 8, requires_grad=True)
    tables = (torch.rand(430, 4), torch.rand(430, 4), bounds, None)
    yield rotary_new, (q, k, *tables, False, False, "auto")
    yield rotary_in_place, (q.detach(), k.detach(), *tables, True, "auto")
    labels = torch.randint(0, 6, (430,)).masked_fill(keep, -100)
    yield row_losses, (values, labels, 2.0, "auto")
    losses, norms = row_losses(values.detach(), labels, 2.0, "auto")
    yield row_gradients, (losses, values.detach(), labels, norms, 2.0, "auto")
    weight = torch.randn(9, 6, requires_grad=True)
    bias = torch.randn(9, requires_grad=True)
    yield chunked, (values, weight, bias, labels, 0.0, 100, 430, True, True, True, True, "auto")


def test_opcheck_passes():
    torch.use_deterministic_algorithms(False)
    for operator, arguments in operator_calls():
        torch.library.opcheck(getattr(operator, "overload", operator), arguments)


@pytest.mark.parametrize("name", NAMES)
def test_captured_whole_by_compile(name):
    function, inputs = calls()[name]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for one, other in zip(results(compiled, inputs), results(function, inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_compiled_on_cuda_without_breaks(name):
    function, inputs = calls("cuda")[name]
    compiled = torch.compile(function, fullgraph=True)
    for one, other in zip(results(compiled, inputs), results(function, inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_graphs_replay_for_other_boundaries(name):
    function, inputs = calls("cuda")[name]
    later, others = calls("cuda", second=True)[name]
    torch.use_deterministic_algorithms(False)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            results(function, inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = results(function, inputs)
    with torch.no_grad():
        for mine, other in zip(inputs, others, strict=True):
            mine.copy_(other)
    graph.replay()
    for one, other in zip(replayed, results(later, others), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_cuda_agrees_with_the_twin(name, dtype):
    tolerance = 1e-4 if dtype is torch.float32 else 2e-2
    function, inputs = calls("cuda", "triton", dtype)[name]
    twin, _ = calls("cuda", "reference", dtype)[name]
    for one, other in zip(results(function, inputs), results(twin, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


WITHOUT_TRITON = """
import sys
from importlib import metadata

installed = metadata.version

def version(name):
    if name == "triton":
        raise metadata.PackageNotFoundError(name)
    return installed(name)

metadata.version = version
sys.modules["triton"] = None
import torch
from tersely.kernels import segment_reduce

assert segment_reduce(torch.ones(3, 2), torch.tensor([0, 3])).tolist() == [[3, 3]]
"""


def test_the_room_needs_no_triton():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TRITON], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
