"""``NeuralModel``: the next byte by a small transformer, for building codes (Lester et al. 2024, section 3.1, their M1).

Decoder-only, 3 layers of width 256 with 4 heads and a ReLU layer of 1,024, over bytes, with a learned bias for each
distance in each layer in place of positions: the paper's sizes. The paper trains it on long texts and then lets it see
a window only; here it learns from what a window shows it, pieces of ``LONGEST`` bytes that begin anywhere.

Its numbers are rounded once, when a code is built. Two machines may round a few of them differently and build codes that
differ in a few strings, but a code is the same wherever it is read: its table is in its folder, the model is not needed.

Legend: ``N`` pieces or contexts, ``L`` places in them, ``C`` width, ``H`` heads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tersely.compress.equal_info.contexts import LONGEST
from tersely.compress.equal_info.models.parts import sum_up
from tersely.errors import TokenizeError
from tersely.tokenize.batch import one_buffer
from tersely.tokenize.protocol import Texts, config_fingerprint

WIDTH, HEADS, LAYERS = 256, 4, 3
_BEGIN = 256  # stands before the first byte of a piece
_BATCH = 4096  # contexts at a time
_RATE, _WARMUP = 2e-3, 0.05


class NeuralModel:
    """Distributions of the next byte from a transformer.

    Args:
        network: with trained weights.

    ``train`` makes one from text, ``load`` from a file.
    """

    def __init__(self, network: ByteTransformer) -> None:
        self._network = network.eval()

    @classmethod
    def train(
        cls,
        texts: Texts,
        *,
        steps: int = 3000,
        batch: int = 4096,
        seed: int = 0,
        device: str | torch.device | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NeuralModel:
        """Trains on pieces of ``texts`` drawn at random, none of which reaches over the end of its document.

        Args:
            texts: documents.
            steps: of the optimizer.
            batch: pieces in each step.
            seed: of the weights and the pieces.
            device: by default a GPU, if there is one. There 3,000 steps take about a minute; on a CPU, hours.
            on_progress: called with steps done and all steps.

        Raises:
            TokenizeError: there is no text.
        """
        documents = one_buffer(texts)
        if not len(documents.values):
            raise TokenizeError("there is no text to learn from: give documents")
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        text = torch.from_numpy(np.array(documents.values)).to(device)
        ends = torch.from_numpy(np.repeat(documents.offsets[1:], documents.lengths)).to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = ByteTransformer().to(device)
        drawn = torch.Generator(device).manual_seed(seed)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
        warmup = max(1, int(_WARMUP * steps))
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = _RATE * min(
                (step + 1) / warmup, (steps - step) / (steps - warmup + 1)
            )
            starts = torch.randint(len(text), (batch,), generator=drawn, device=device)
            loss = _loss(network, text, ends, starts)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if on_progress:
                on_progress(step + 1, steps)
        return cls(network)

    @property
    def context(self) -> int:
        """The longest context, in bytes."""
        return LONGEST

    @property
    def fingerprint(self) -> str:
        """A hash of all weights."""
        weights = (weight.cpu().numpy().tobytes() for weight in self._network.state_dict().values())
        return config_fingerprint({"type": "neural", "version": 1}, *weights)

    def known(self, contexts: Any) -> Any:
        """The contexts themselves: all are told apart."""
        return contexts

    @torch.no_grad()
    def cdf(self, contexts: Any) -> Any:
        """The distributions after contexts, shape ``(N, 257)``, int32, from 0 to 65,536."""
        device = next(self._network.parameters()).device
        sums = np.empty((len(contexts), 257), np.int32)
        rows, lengths = _rows(np.asarray(contexts, np.uint64))
        for length in np.unique(lengths).tolist():  # a piece's places are the same whatever stands behind it
            these = np.flatnonzero(lengths == length)
            for first in range(0, len(these), _BATCH):
                some = these[first : first + _BATCH]
                ids = torch.from_numpy(rows[some, : length + 1]).to(device)
                likely = self._network(ids)[:, -1].double().softmax(-1)
                sums[some] = sum_up((likely * (1 << 30)).long().cpu().numpy().astype(np.uint32))
        return sums

    def save(self, file: str | Path) -> None:
        """Writes the weights as safetensors."""
        from safetensors.torch import save

        weights = {name: weight.cpu().contiguous() for name, weight in self._network.state_dict().items()}
        about = json.dumps({"type": "neural", "version": 1})
        Path(file).write_bytes(save(weights, {"model": about}))

    @classmethod
    def load(cls, file: str | Path, device: str | torch.device | None = None) -> NeuralModel:
        """The model that ``save`` wrote, on ``device``, by default a GPU if there is one.

        Raises:
            TokenizeError: the file is none.
        """
        from safetensors import SafetensorError, safe_open

        network = ByteTransformer()
        try:
            with safe_open(str(file), "pt") as stored:
                about = json.loads((stored.metadata() or {}).get("model", "{}"))
                network.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise TokenizeError(f"{file} cannot be read as a neural model: {error}") from error
        if about.get("type") != "neural" or about.get("version") != 1:
            raise TokenizeError(f"{file} holds no neural model of version 1: train it again")
        return cls(network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")))


class ByteTransformer(nn.Module):
    """From ids ``(N, L)``, 256 first and then bytes, to logits of the next byte ``(N, L, 256)``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, WIDTH)
        self.layers = nn.ModuleList(_Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 256)

    def forward(self, ids: Tensor) -> Tensor:
        """See the class."""
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.distance = nn.Parameter(torch.zeros(HEADS, LONGEST + 1))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        back = places[:, None] - places
        bias = self.distance[:, back.clamp(min=0)].masked_fill(back < 0, -torch.inf)
        q, k, v = self.qkv(self.before_attention(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        heads = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


def _loss(network: ByteTransformer, text: Tensor, ends: Tensor, starts: Tensor) -> Tensor:
    """Of the bytes of the pieces that begin at ``starts``, each from those of its piece before it."""
    places = starts[:, None] + torch.arange(LONGEST + 1, device=text.device)
    inside = places < ends[starts][:, None]
    piece = text[places.clamp(max=len(text) - 1)].long()
    ids = nn.functional.pad(piece[:, :-1], (1, 0), value=_BEGIN)
    with torch.autocast(text.device.type, torch.bfloat16, enabled=text.is_cuda):
        logits = network(ids)
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), piece.where(inside, -100).flatten())


def _rows(contexts: Any) -> tuple[Any, Any]:
    """Ids ``(N, LONGEST + 1)`` of contexts, ``_BEGIN`` first, and how many bytes each has."""
    raw = contexts.astype(">u8")[:, None].view(np.uint8)  # zeros, a one, the bytes
    lengths = LONGEST - np.argmax(raw != 0, axis=1)
    order = (np.arange(LONGEST + 1) + LONGEST - lengths[:, None]).clip(max=LONGEST)
    rows = np.take_along_axis(raw, order, axis=1).astype(np.int64)
    rows[:, 0] = _BEGIN
    return rows, lengths
