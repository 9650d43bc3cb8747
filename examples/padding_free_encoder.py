"""Runs an encoder on a padded batch without computing padding: unpacked once before the first layer, padded once after the last.

    input_ids (B, L)  --unpad-->  (1, T)  --any model of transformers-->  (1, T, C)  --pad-->  (B, L, C)

The model is transformers' own; ``attn_implementation="tersely"`` keeps the sequences apart. This is the padding-free path
of ByteTransformer (Zhai et al. 2023). Run it: python examples/padding_free_encoder.py
"""

import torch
from transformers import BertConfig, BertModel, PreTrainedModel

from tersely.kernels import Boundaries, pad, register_with_transformers, unpad


def encode(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    capacity: int | None = None,
) -> torch.Tensor:
    """Last hidden states ``(B, L, C)`` of ids ``(B, L)``, 0 at padding; the model sees real tokens only.

    With a ``capacity``, at least the number of real tokens, nothing waits for the device: this can be captured in a CUDA
    graph, which then serves all batches of so many tokens.
    """
    batch, length = input_ids.shape
    ids, cu_seqlens, indices = unpad(input_ids, attention_mask, capacity)
    places = (attention_mask.cumsum(1) - 1).flatten()[indices]  # of each token in its sequence
    boundaries = Boundaries.from_cu_seqlens(cu_seqlens, len(ids))  # once, for all layers
    hidden = model(input_ids=ids[None], position_ids=places[None], boundaries=boundaries).last_hidden_state
    return pad(hidden[0], batch, length, indices=indices)


def batch_of(sizes: list[int], vocabulary: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids and their mask, padded on the right to the longest."""
    mask = (torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None]).long()
    ids = torch.randint(1, vocabulary, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    return ids.to(device), mask.to(device)


def main() -> None:
    """Compares with the padded model, on the CPU."""
    register_with_transformers()
    torch.manual_seed(0)
    config = BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    model = BertModel(config, add_pooling_layer=False).eval()
    ids, mask = batch_of([50, 7, 31, 64], config.vocab_size)
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=mask).last_hidden_state
        model.set_attn_implementation("tersely")
        packed = encode(model, ids, mask, capacity=160)
    difference = (packed - padded)[mask.bool()].abs().max().item()
    print(f"{int(mask.sum())} of {mask.numel()} tokens computed, largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
