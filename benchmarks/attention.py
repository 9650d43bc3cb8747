"""How fast is packed attention, forward and with its backward, next to torch's varlen_attn and flash-attn-4?

python benchmarks/attention.py [--heads A,C,B] [--workloads W1,W2,W3,W4] [--only NAME,...] [--out FOLDER]

Needs a Hopper GPU. Every workload is 32,768 tokens of bfloat16, causal. Each implementation is first built and checked
in a process of its own, all at once; then, for each set of heads, one process times those that passed in
interleaved rounds, so that a change of clocks hits all alike: medians of CUDA events with the L2 cache flushed
before each run. A kernel that hangs or crashes costs itself alone. "tersely" is what ``backend="auto"`` takes, "hopper" and
"triton" are asked for by name.
"""

import argparse
import importlib.metadata
import inspect
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch

TOKENS = 32768
HEADS = {"A": (16, 16, 128), "C": (32, 32, 64), "B": (32, 8, 128)}  # query heads, key heads, head dimension


# Workloads: lengths of documents that sum to TOKENS
def log_normal(total, median, sigma, lowest, highest, rng):
    lengths = []
    while total:
        length = int(min(highest, max(lowest, rng.lognormvariate(math.log(median), sigma))))
        lengths.append(min(length, total))
        total -= lengths[-1]
    return lengths


def uniform(total, n, lowest, highest, rng):
    """N lengths, nudged by one at a time until they sum to total."""
    lengths = [rng.randint(lowest, highest) for _ in range(n)]
    while missing := total - sum(lengths):
        i = rng.randrange(n)
        step = 1 if missing > 0 else -1
        if lowest <= lengths[i] + step <= highest:
            lengths[i] += step
    return lengths


def workloads():
    rng = random.Random(1234)
    mixed = log_normal(TOKENS, 400, 1.0, 16, 8192, rng)
    short = uniform(TOKENS, 256, 20, 256, rng)
    one_long = [16384, *log_normal(TOKENS - 16384, 200, 0.8, 16, 2048, rng)]
    rng.shuffle(one_long)
    return {"W1": mixed, "W2": short, "W3": [4096] * 8, "W4": one_long}


def operations(lengths, heads, D):
    return 4.0 * D * heads * sum(n * (n + 1) // 2 for n in lengths)


# Implementations: a function of (q, k, v, dout, batch) that gives one of forward and one of forward + backward
def batch_of(lengths):
    from tersely.kernels import Boundaries

    cu = torch.tensor([0, *lengths], device="cuda").cumsum(0).to(torch.int32)
    bounds = Boundaries.from_cu_seqlens(cu, sum(lengths), causal=True)
    return SimpleNamespace(cu=cu, longest=max(lengths), bounds=bounds)


def by_autograd(attention):
    def implementation(q, k, v, dout, batch):
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]

        def both():
            out = attention(*leaves, batch)
            return out, *torch.autograd.grad(out, leaves, dout)

        return lambda: attention(q, k, v, batch), both

    return implementation


def varlen_attn(q, k, v, batch):
    from torch.nn.attention.varlen import varlen_attn

    grouped = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    return varlen_attn(
        q, k, v, batch.cu, batch.cu, batch.longest, batch.longest, window_size=(-1, 0), **grouped
    )


def flash_attn_4(q, k, v, batch):
    from flash_attn.cute import flash_attn_varlen_func

    out = flash_attn_varlen_func(
        q, k, v, cu_seqlens_q=batch.cu, cu_seqlens_k=batch.cu, max_seqlen_q=batch.longest,
        max_seqlen_k=batch.longest, causal=True,
    )  # fmt: skip
    return out[0] if isinstance(out, tuple) else out


def tersely(backend):
    """Ours, with boundaries that are made once, as for all layers of a model."""
    from tersely.kernels import varlen_attention

    return by_autograd(lambda q, k, v, batch: varlen_attention(q, k, v, batch.bounds, backend=backend))


IMPLEMENTATIONS = {
    "tersely": tersely("auto"),
    "hopper": tersely("hopper"),
    "triton": tersely("triton"),
    "varlen_attn": by_autograd(varlen_attn),
    "flash-attn-4": by_autograd(flash_attn_4),
}


# Stages, each in a process of its own
def inputs(heads, tokens=TOKENS):
    generator = torch.Generator("cuda").manual_seed(1)
    H, Hkv, D = HEADS[heads]
    return [
        torch.randn(tokens, h, D, generator=generator, device="cuda", dtype=torch.bfloat16)
        for h in (H, Hkv, Hkv, H)
    ]


def check(heads, name):
    """Both passes against float32 per document, on documents of both tile sizes; raises where they differ."""
    q, k, v, dout = inputs(heads, 2048)
    group = q.shape[1] // k.shape[1]
    for lengths in ([700, 1, 127, 129, 64, 1027], [128] * 16, [20] * 102 + [8]):
        got = IMPLEMENTATIONS[name](q, k, v, dout, batch_of(lengths))[1]()
        wanted = [torch.empty_like(x, dtype=torch.float32) for x in got]
        start = 0
        for n in lengths:
            rows = slice(start, start + n)
            a, b, c = (x[rows].float().transpose(0, 1).requires_grad_() for x in (q, k, v))
            out = torch.nn.functional.scaled_dot_product_attention(
                a, b.repeat_interleave(group, 0), c.repeat_interleave(group, 0), is_causal=True
            )
            grads = torch.autograd.grad(out, (a, b, c), dout[rows].float().transpose(0, 1))
            for w, x in zip(wanted, (out, *grads), strict=True):
                w[rows] = x.transpose(0, 1)
            start += n
        for label, w, x in zip(("out", "dq", "dk", "dv"), wanted, got, strict=True):
            error = ((x.float() - w).norm() / w.norm()).item()
            if not error < 1e-2:
                raise SystemExit(f"{label} is off by {error:.1e}")


def timed(functions, rounds, repeats, flush):
    """Median microseconds of each function, over interleaved rounds."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function()
    torch.cuda.synchronize()
    for _ in range(rounds):
        for name, function in functions.items():
            events = []
            for _ in range(repeats):
                a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                torch.cuda._sleep(300_000)  # the host gets ahead: its calls are not what is measured
                flush.zero_()
                a.record()
                function()
                b.record()
                events.append((a, b))
            torch.cuda.synchronize()
            times[name] += [a.elapsed_time(b) * 1e3 for a, b in events[1:]]
    return {name: statistics.median(x) for name, x in times.items()}


def measure(heads, names, which, rounds):
    q, k, v, dout = inputs(heads)
    flush = torch.empty(2**28, dtype=torch.int8, device="cuda")
    for workload, lengths in workloads().items():
        if workload not in which:
            continue
        pairs = {name: IMPLEMENTATIONS[name](q, k, v, dout, batch_of(lengths)) for name in names}
        forward = timed({name: pair[0] for name, pair in pairs.items()}, rounds, 6, flush)
        both = timed({name: pair[1] for name, pair in pairs.items()}, rounds, 4, flush)
        work = operations(lengths, HEADS[heads][0], HEADS[heads][2])
        for name in names:
            row = {"heads": heads, "workload": workload, "implementation": name, "forward us": forward[name],
                   "both us": both[name], "forward TFLOP/s": work / forward[name] / 1e6,
                   "both TFLOP/s": 3.5 * work / both[name] / 1e6}  # fmt: skip
            print("ROW " + json.dumps(row), flush=True)


def child(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def finish(process, seconds):
    """What a child printed, and how it ended; it is killed when its time is up."""
    try:
        output, _ = process.communicate(timeout=seconds)
        return output, process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0], "out of time"


def run(heads, which, names, rounds):
    jobs = {(h, name): child("--check", h, name) for h in heads for name in names}
    passed = {h: [] for h in heads}
    limit = time.time() + 90
    for (h, name), process in jobs.items():
        output, code = finish(process, max(1, limit - time.time()))
        if code == 0:
            passed[h].append(name)
        else:
            print(f"{name} with heads {h} is left out ({code}): {output.strip()[-400:]}", flush=True)
    rows = []
    for h in heads:
        output, code = finish(child("--measure", h, ",".join(passed[h]), ",".join(which), str(rounds)), 150)
        rows += [json.loads(line[4:]) for line in output.splitlines() if line.startswith("ROW ")]
        if code != 0:
            print(f"heads {h} ended early ({code}): {output.strip()[-400:]}", flush=True)
    return rows


def table(rows):
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; forward / forward + backward, us (TFLOP/s)"
    )
    for heads in dict.fromkeys(r["heads"] for r in rows):
        print(
            f"{heads}: {HEADS[heads][0]} query and {HEADS[heads][1]} key heads, D {HEADS[heads][2]}, causal"
        )
        for name in dict.fromkeys(r["implementation"] for r in rows):
            cells = [
                f"{r['workload']} {r['forward us']:5.0f} / {r['both us']:5.0f} ({r['forward TFLOP/s']:3.0f} / {r['both TFLOP/s']:3.0f})"
                for r in rows
                if r["heads"] == heads and r["implementation"] == name
            ]
            print(f"  {name:14s} " + " | ".join(cells), flush=True)


def versions():
    packages = ("torch", "triton", "flash-attn-4", "nvidia-cutlass-dsl")
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {name: installed[name] for name in packages if name in installed}


def main():
    if sys.argv[1:2] == ["--check"]:
        return check(*sys.argv[2:])
    if sys.argv[1:2] == ["--measure"]:
        heads, names, which, rounds = sys.argv[2:]
        return measure(heads, names.split(","), which.split(","), int(rounds))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", default="A,C,B")
    parser.add_argument("--workloads", default="W1,W2,W3,W4")
    parser.add_argument("--only", default=",".join(IMPLEMENTATIONS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "benchmarks/results")))
    options = parser.parse_args()
    rows = run(*(x.split(",") for x in (options.heads, options.workloads, options.only)), options.rounds)
    result = {
        "benchmark": "attention",
        "gpu": torch.cuda.get_device_name(),
        "versions": versions(),
        "rows": rows,
    }
    (options.out / "attention.json").write_text(json.dumps(result, indent=1) + "\n")
    return table(rows)


if __name__ == "__main__":
    main()
