"""A run that was broken off: the network, the optimizer, how far it was, in one file of safetensors that is whole or not there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tersely.errors import EmbeddingError
from tersely.shards.atomic import whole_file

NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Place:
    """How far a run is.

    Attributes:
        step: steps that are done; the number of the next batch.
        seconds: that they took.
        settings: of the run, which must be the same when it goes on.
    """

    step: int
    seconds: float
    settings: dict[str, Any]


def save(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, place: Place) -> None:
    """Writes the file, in place of the one that was there."""
    tensors = {f"network.{name}": part for name, part in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(part) for name, part in state.items()}
    held = {name: part.detach().cpu().contiguous() for name, part in tensors.items()}
    with whole_file(folder / NAME) as temporary:
        save_file(held, temporary, {"place": json.dumps(asdict(place))})


def load(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]
) -> Place:
    """Brings the network and the optimizer to where they were.

    Raises:
        EmbeddingError: there is no such file, or the settings were others.
    """
    path = folder / NAME
    if not path.exists():
        raise EmbeddingError(f"{path} is not there, so nothing can go on: begin anew, in another folder")
    with safe_open(path, "pt") as file:
        place = Place(**json.loads(file.metadata()["place"]))
        for name, value in settings.items():
            if place.settings.get(name) != value:
                raise EmbeddingError(
                    f"{path} was made with {name} {place.settings.get(name)!r}, not {value!r}: give the same, or begin anew"
                )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no dict
    network.load_state_dict(
        {name.removeprefix("network."): part for name, part in tensors.items() if name.startswith("network.")}
    )
    states = dict[int, dict[str, Any]]()
    for name, part in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            states.setdefault(int(number), {})[key] = part
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    return place
