"""What only a GPU can show: that nothing waits where nothing should, and that both devices agree."""

import warnings

import pytest
import torch
from merging import build, pack

from tersely.compress.merge.policies import FixedPolicy, exact_rate

pytestmark = pytest.mark.gpu
POLICIES = ["stride", "random", "space", "entropy", "router"]


@pytest.fixture
def waits():
    """Counts how often the host waits for the device."""

    def count(run):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in found)

    return count


@pytest.mark.parametrize("policy", POLICIES)
def test_a_forward_waits_once_and_exact_rates_never(policy, waits):
    model = build(policy, expand="smooth" if policy == "router" else "repeat", heads=1, main_heads=1)
    model = model.float().cuda()
    ids, cu_seqlens = (part.cuda() for part in pack(slack=2)[:2])
    model(ids, cu_seqlens, labels=ids)  # what is compiled, and what an entropy policy asks once
    assert waits(lambda: model(ids, cu_seqlens, labels=ids)) == 1
    hidden = torch.randn(len(ids), 16, device="cuda")
    policies = [model.body.policy, FixedPolicy(0.3).cuda()]
    assert waits(lambda: [exact_rate(p(hidden, cu_seqlens, ids), cu_seqlens, 0.3) for p in policies]) == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_both_devices_choose_and_give_the_same(policy):
    expand = "smooth" if policy == "router" else "repeat"
    model = build(policy, "mean", expand, width=64, heads=1, main_width=64, main_heads=1).float()
    for part in model.parameters():
        if part.dim() == 2:
            torch.nn.init.normal_(part, std=0.1)
    ids, cu_seqlens, _ = pack(slack=2)
    here = model(ids, cu_seqlens, labels=ids)
    model = model.cuda()
    there = model(ids.cuda(), cu_seqlens.cuda(), labels=ids.cuda())
    assert torch.equal(here.keep, there.keep.cpu())
    torch.testing.assert_close(there.logits.cpu()[:-2], here.logits[:-2], atol=1e-3, rtol=1e-3)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rounded = model(ids.cuda(), cu_seqlens.cuda(), labels=ids.cuda())
    (rounded.loss + rounded.rate_loss).backward()
    assert all(torch.isfinite(part.grad).all() for part in model.parameters() if part.grad is not None)
    if policy != "router":  # whose probabilities may fall on the other side
        assert torch.equal(rounded.keep, there.keep)
        assert abs(float(rounded.loss - there.loss)) < 0.05 * float(there.loss)


def test_generation_is_that_of_the_processor():
    model = build("space", "mean", width=64, heads=1, main_width=64, main_heads=1).float()
    ids, cu_seqlens = torch.tensor([256, *b"ab cd", 256, *b"x"]), torch.tensor([0, 6, 8], dtype=torch.int32)
    here = model.generate(ids, cu_seqlens, max_new_tokens=16)
    assert model.cuda().generate(ids.cuda(), cu_seqlens.cuda(), max_new_tokens=16).equals(here)


def test_similar_positions_are_merged_alike():
    from tersely.compress.merge.similar import match_similar

    torch.manual_seed(0)
    keys, cu_seqlens = torch.randn(3000, 32), torch.tensor([0, 700, 700, 701, 2900], dtype=torch.int32)
    here, there = match_similar(keys, cu_seqlens, 0.3), match_similar(keys.cuda(), cu_seqlens.cuda(), 0.3)
    assert (here.member == there.member.cpu()).float().mean() > 0.99
    assert torch.equal(here.cu_seqlens, there.cu_seqlens.cpu())
