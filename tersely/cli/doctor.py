"""``tersely doctor``: what this machine can run, and why not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Any

import click

import tersely
from tersely.cli.output import json_option, print_json

_NEEDED = (
    "numpy",
    "numba",
    "pyarrow",
    "datasets",
    "tokenizers",
    "torch",
    "transformers",
    "safetensors",
    "click",
    "rich",
    "orjson",
    "xxhash",
    "regex",
    "jinja2",
    "sentencepiece",
    "tiktoken",
)
_OPTIONAL = {
    "triton": "[gpu] kernels for CUDA devices",
    "gigatoken": "[fast] BPE engine",
    "ray": "[ray] several machines",
    "matplotlib": "[viz] plots",
    "trl": "training with SFTTrainer",
    "torchdata": "StatefulDataLoader",
    "flash_attn": "flash attention 2",
}


@click.command("doctor", short_help="Say what this machine can run, and why not.")
@json_option
def command(as_json: bool) -> int:
    """Say what this machine can run: versions, devices, attention backends, and what is missing for the rest.

    Exits with 1 if something needed is missing or does not work.
    """
    report: dict[str, Any] = {
        "tersely": tersely.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: _version(name) for name in _NEEDED},
        "optional": {name: _version(name) for name in _OPTIONAL},
        "checks": _checks(),
    }
    faults = [name for name, version in report["packages"].items() if version is None]
    faults += [check["name"] for check in report["checks"] if check["ok"] is False]
    if as_json:
        print_json(report | {"ok": not faults})
        return 1 if faults else 0
    click.echo(f"tersely {report['tersely']}, Python {report['python']}, {report['machine']}")
    for name, version in report["packages"].items():
        click.echo(f"  {name:14} {version or 'MISSING: reinstall tersely'}")
    for name, version in report["optional"].items():
        click.echo(f"  {name:14} {version or f'not installed ({_OPTIONAL[name]})'}")
    for check in report["checks"]:
        mark = {True: "ok", False: "FAULT", None: "-"}[check["ok"]]
        click.echo(f"  {mark:5} {check['name']}: {check['detail']}")
    return 1 if faults else 0


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return None


def _checks() -> list[dict[str, Any]]:
    """Each tries a thing for real; ``ok`` is None where the machine lacks it and nothing needs it."""
    checks = [_planner(), _compiled_cache()]
    if importlib.util.find_spec("torch"):
        checks += [_device(), *_kernels(), *_attention()]
    return checks


def _planner() -> dict[str, Any]:
    import time

    import numpy as np

    from tersely.pack import plan

    lengths = np.random.default_rng(0).integers(1, 2048, 100_000)
    plan(lengths, 8192)
    started = time.perf_counter()
    made = plan(lengths, 8192)
    rate = len(lengths) / (time.perf_counter() - started) / 1e6
    return {
        "name": "planner",
        "ok": made.tokens == int(lengths.sum()),
        "detail": f"{rate:.0f} million documents a second on one core",
    }


def _compiled_cache() -> dict[str, Any]:
    from pathlib import Path

    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(tersely.__file__).parent)
    writable = os.access(folder, os.W_OK)
    detail = (
        f"kept in {folder}" if writable else f"{folder} is read-only: numba uses your cache folder instead"
    )
    return {"name": "compiled code", "ok": True if writable else None, "detail": detail}


def _device() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        name, (major, minor) = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        return {"name": "GPU", "ok": True, "detail": f"{name}, sm_{major}{minor}, CUDA {torch.version.cuda}"}
    why = "this torch has no CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
    return {"name": "GPU", "ok": None, "detail": f"none: {why}; packing and training run on the CPU"}


def _kernels() -> list[dict[str, Any]]:
    """Which implementations of packed attention run here, and why not the others; the first that runs is ``auto``."""
    import torch

    from tersely.kernels import Backend
    from tersely.kernels.attention import adapters, backend

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: list[dict[str, Any]] = []
    chosen = False
    for each in Backend:
        if each is Backend.AUTO:
            continue
        other = adapters.is_adapter(each)
        why = adapters.why_not_installed(each, device) if other else backend.why_not_here(each, device)
        detail = "can be asked for by name" if other or chosen else "what auto takes first"
        chosen = chosen or why is None
        found.append(
            {"name": f"packed attention, {each}", "ok": None if why else True, "detail": why or detail}
        )
    return found


def _attention() -> list[dict[str, Any]]:
    """Whether each attention of transformers keeps packed documents apart here, with and without a cache."""
    if sys.platform == "win32" or not importlib.util.find_spec("transformers"):
        return []
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig
    from transformers.utils import logging

    from tersely.kernels import register_with_transformers
    from tersely.pack import check_isolation

    logging.set_verbosity_error()
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    found: list[dict[str, Any]] = []
    register_with_transformers()
    for attention in ("eager", "sdpa", "flex_attention", "tersely"):
        if attention == "flex_attention" and not torch.cuda.is_available():
            detail = "not tried: on a CPU it is compiled for half a minute"
            found.append({"name": f"{attention} attention", "ok": None, "detail": detail})
            continue
        try:
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
            report = check_isolation(model)
            found.append(
                {
                    "name": f"{attention} attention",
                    "ok": not report.leaks,
                    "detail": "documents leak: do not train with it"
                    if report.leaks
                    else "keeps documents apart",
                }
            )
        except (ImportError, RuntimeError, ValueError) as error:
            found.append({"name": f"{attention} attention", "ok": None, "detail": str(error).split("\n")[0]})
    return found
