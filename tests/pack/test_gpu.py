"""Packed batches on a CUDA device: no leaks, and the losses of unpacked documents."""

import pytest
import torch
from small import tiny_llama

from tersely.pack import PackedCollator, check_isolation

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
def test_documents_are_kept_apart(attention, dtype):
    report = check_isolation(tiny_llama(attention).to("cuda", dtype))
    assert report, str(report)


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
def test_losses_and_gradients_are_those_of_the_documents_alone(attention):
    torch.backends.cuda.matmul.allow_tf32 = False
    model = tiny_llama(attention).to("cuda")
    documents = [torch.randint(384, (n,), device="cuda") for n in (33, 1, 70, 120)]
    row = {"input_ids": torch.cat(documents), "seq_lengths": [len(d) for d in documents]}
    packed = model(**PackedCollator(model, pad_to_multiple_of=128)([row]).to("cuda")).loss
    packed.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    plain = tiny_llama("eager").to("cuda")
    total = torch.zeros((), device="cuda")
    for document in documents:
        logits = plain(input_ids=document[None], use_cache=False).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, document[1:], reduction="sum")
    alone = total / sum(len(d) - 1 for d in documents)
    alone.backward()
    assert packed.item() == pytest.approx(alone.item(), abs=1e-4)
    for mine, parameter in zip(gradients, plain.parameters(), strict=True):
        assert torch.allclose(mine, parameter.grad, atol=1e-4)
