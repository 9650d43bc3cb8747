"""Trains a small byte-level Llama on packed rows of Python's own source files, stops, and resumes exactly.

Run it: python examples/train_on_sample.py [STEPS]
"""

import sys
import tempfile
from pathlib import Path

import torch
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from tersely.corpus import SampleSource, prepare
from tersely.pack import PackedCollator, PackedDataset, check_isolation


def make(folder: Path):
    """The same model, optimizer and loader every time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=384, **sizes))
    dataset = PackedDataset(folder, capacity=512, strategy="mix", seed=0)
    loader = StatefulDataLoader(dataset, batch_size=2, collate_fn=PackedCollator(model))
    return model, torch.optim.AdamW(model.parameters(), lr=3e-3), loader


def train(model, optimizer, batches, steps: int) -> list[float]:
    """The losses of some steps."""
    losses = []
    for _ in range(steps):
        loss = model(**next(batches)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "prepared"
        manifest = prepare([SampleSource()], folder, "bytes", capacity=512)
        print(
            f"{manifest.documents} documents in {manifest.rows} rows, {100 * manifest.efficiency:.2f} % used"
        )

        model, optimizer, loader = make(folder)
        print(check_isolation(model))
        batches = iter(loader)
        first = train(model, optimizer, batches, steps)
        checkpoint = (model.state_dict(), optimizer.state_dict(), loader.state_dict())
        checkpoint = torch.load(_saved(checkpoint, temporary), weights_only=True)
        straight = train(model, optimizer, batches, steps)

        model, optimizer, loader = make(folder)
        for part, state in zip((model, optimizer, loader), checkpoint, strict=True):
            part.load_state_dict(state)
        resumed = train(model, optimizer, iter(loader), steps)
    print(f"loss {first[0]:.3f} -> {first[-1]:.3f} -> {straight[-1]:.3f}")
    print("resumed exactly" if resumed == straight else f"NOT resumed exactly: {resumed} {straight}")


def _saved(checkpoint, folder: str) -> str:
    torch.save(checkpoint, f"{folder}/checkpoint.pt")
    return f"{folder}/checkpoint.pt"


if __name__ == "__main__":
    main()
