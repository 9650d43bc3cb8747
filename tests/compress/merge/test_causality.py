"""The causality checker: what is causal passes, what looks ahead is named."""

from types import SimpleNamespace

import pytest
import torch
from merging import FORMS, build, pack
from torch import nn

from tersely.compress.merge.causality import check_causality
from tersely.compress.merge.policies import Choice, FixedPolicy, exact_rate
from tersely.compress.merge.reduce import GroupReduce
from tersely.errors import UsageError


@pytest.mark.parametrize(("policy", "reduce", "expand"), [*FORMS, ("all", "keep", "repeat")])
def test_every_form_of_the_decoder_is_causal(policy, reduce, expand):
    ids, cu_seqlens, _ = pack(slack=2)
    model = build(policy, reduce, expand)
    assert check_causality(model, ids, cu_seqlens, tries=12)
    assert check_causality(model.float(), ids, tries=3)


class Lookahead(nn.Module):
    """Begins a group before each space: it has to know the next byte."""

    causal, reach = False, 0

    def forward(self, hidden, cu_seqlens, input_ids, position_ids=None):
        keep = torch.cat([input_ids[1:] == 32, torch.zeros(1).bool()])
        return Choice(keep, keep.float())


def test_a_policy_that_looks_ahead_is_found_where_it_looks():
    text = torch.tensor([256, *b"one two three four", 256])
    model = build("space")
    model.body.policy = Lookahead()
    report = check_causality(model, text, tries=len(text))
    assert not report
    assert "LOOKS AHEAD" in str(report)
    assert {4, 8, 14} <= {leak.changed for leak in report.leaks}
    for leak in report.leaks:
        assert leak.position == leak.changed - 1
        assert leak.boundaries == 1
    assert any(leak.by > 1e-3 for leak in report.leaks)


class Exact(nn.Module):
    causal, reach = False, 0

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden, cu_seqlens, input_ids, position_ids=None):
        return exact_rate(self.inner(hidden, cu_seqlens, input_ids, position_ids), cu_seqlens, 0.3)


@pytest.mark.parametrize("policy", ["stride", "random", "space", "router", "entropy"])
def test_exact_rates_look_ahead_unless_of_a_stride(policy):
    ids, cu_seqlens, _ = pack()
    model = build(policy)
    model.body.policy = Exact(model.body.policy)
    assert bool(check_causality(model, ids, cu_seqlens, tries=24)) == (policy == "stride")


def test_the_fixed_control_looks_ahead():
    ids, cu_seqlens, _ = pack()
    model = build()
    model.body.policy = FixedPolicy(0.5)
    assert not check_causality(model, ids, cu_seqlens)


def test_means_of_groups_that_have_not_ended_are_found(monkeypatch):
    monkeypatch.setattr(GroupReduce, "causal", GroupReduce.forward)
    ids, cu_seqlens, _ = pack()
    for reduce in ("mean", "max", "attention"):
        report = check_causality(build(reduce=reduce), ids, cu_seqlens, tries=12)
        assert not report
        assert all(leak.boundaries == 0 for leak in report.leaks)


def test_functions_are_checked_too_and_documents_kept_apart():
    values = torch.arange(6)
    bounds = torch.tensor([0, 3, 6], dtype=torch.int32)
    assert not check_causality(lambda ids, cu: ids.double().cumsum(0)[:, None], values, bounds)
    assert check_causality(lambda ids, cu: ids.double().cumsum(0)[:, None], values)
    assert not check_causality(lambda ids, cu: ids.double().flip(0).cumsum(0).flip(0)[:, None], values)
    with pytest.raises(UsageError, match="no ids"):
        check_causality(lambda ids, cu: ids[:, None], values[:0])
    with pytest.raises(UsageError, match="finite"):
        check_causality(lambda ids, cu: ids[:, None] / torch.zeros(1), values)


def test_noise_that_would_hide_leaks_is_refused():
    def dropping(ids, cu):
        return torch.nn.functional.dropout(ids.double().flip(0).cumsum(0).flip(0)[:, None], 0.5)

    def guessing(ids, cu):
        return SimpleNamespace(logits=ids.double()[:, None], keep=torch.rand(len(ids)) < 0.5)

    torch.manual_seed(0)
    for forward in (dropping, guessing):
        with pytest.raises(UsageError, match="call eval"):
            check_causality(forward, torch.arange(40))
