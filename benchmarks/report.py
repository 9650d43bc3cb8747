"""What all benchmark scripts share: timing, a table on stdout, a JSON result with versions and machine."""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path

_PACKAGES = (
    "tersely",
    "numpy",
    "numba",
    "pyarrow",
    "tokenizers",
    "tiktoken",
    "sentencepiece",
    "gigatoken",
    "datasets",
    "transformers",
    "trl",
    "torch",
    "triton",
    "megatron-core",
    "mosaicml-streaming",
    "litdata",
)


def best_seconds(call, repeats=5, clock=time.perf_counter):
    """The shortest of several runs by ``clock``, after one that compiles; and the last result.

    ``time.process_time`` counts all threads of this process and no others: for calls of one thread, it is the clock
    that a busy machine does not disturb.
    """
    result = call()
    shortest = float("inf")
    for _ in range(repeats):
        started = clock()
        result = call()
        shortest = min(shortest, clock() - started)
    return shortest, result


def captured(call):
    """``call`` replayed from a CUDA graph, without the time of its launches; gives what the capture gave, computed anew."""
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay():
        graph.replay()
        return out

    return replay


def arguments(description):
    """A parser with the options that every script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the shared corpora")
    return parser


def missing(what):
    """Ends the script with a sentence, without installing anything."""
    raise SystemExit(f"this benchmark needs {what}")


def publish(name, rows, note=""):
    """Prints rows (dictionaries with the same keys) and writes benchmarks/results/NAME.json."""
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if note:
        print(note)
    result = {"benchmark": name, "note": note, "machine": _machine(), "versions": _versions(), "rows": rows}
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


def _cell(value):
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _machine():
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    machine = {
        "system": platform.platform(),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return machine


def _lines(path):
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _versions():
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
