"""What only a GPU can show of word models: nothing waits, 16 bits are near 32, and texts come out."""

import pytest
import torch

from tersely.embeddings import WordPooledConfig, WordPooledLM

pytestmark = pytest.mark.gpu
TEXTS = ["the cat, unbelievably, sat on the mat", "", "a", "Ωμέγα and 漢字"] * 9


def made(pool, **settings):
    torch.manual_seed(0)
    sizes = dict(hidden_size=256, num_hidden_layers=2, num_attention_heads=4, pool=pool, slots=2)
    return WordPooledLM(WordPooledConfig(**sizes | settings))


def gradients(model, batch, **autocast):
    with torch.autocast("cuda", torch.bfloat16, **autocast):
        loss = model(batch).loss
    return loss, torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("pool", ["prefix", "query", "mean", "max", "first"])
def test_nothing_waits_for_the_device_in_either_pass(pool):
    model = made(pool).to("cuda", torch.bfloat16)
    batch = model.batch_of(TEXTS)
    gradients(model, batch, enabled=False)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients(model, batch, enabled=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("pool", ["prefix", "query"])
def test_sixteen_bits_are_near_the_processor_in_thirty_two(pool):
    plain = made(pool)
    loss = plain(plain.batch_of(TEXTS)).loss
    slopes = torch.autograd.grad(loss, list(plain.parameters()))
    model = made(pool).cuda()
    batch = model.batch_of(TEXTS)
    for one, grads in (gradients(model, batch), gradients(model.bfloat16(), batch, enabled=False)):
        assert one.item() == pytest.approx(loss.item(), rel=0.01)
        for slope, grad in zip(slopes, grads, strict=True):
            assert (slope - grad.cpu()).norm() < 0.1 * slope.norm() + 1e-4


@pytest.mark.parametrize("pool", ["prefix", "query"])
def test_generation_gives_texts_that_the_seed_decides(pool):
    model = made(pool).to("cuda", torch.bfloat16)
    texts = model.generate(TEXTS[:5], max_new_words=8, temperature=1.0, seed=1)
    assert texts == model.generate(TEXTS[:5], max_new_words=8, temperature=1.0, seed=1)
    assert all(isinstance(text, bytes) for text in texts)
    assert any(texts)
