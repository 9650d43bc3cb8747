"""MergingLM: packed against the padded twin, in all that it is built of."""

import pytest
import torch
from merging import FORMS, build, merging_lm, pack, padded, stack
from torch.nn import functional as F

from tersely.compress.merge.lm import MergingLM
from tersely.errors import UsageError


@pytest.mark.parametrize(("policy", "reduce", "expand"), FORMS)
def test_packed_documents_are_as_the_padded_twin(policy, reduce, expand):
    model = build(policy, reduce, expand, window=5 if policy == "space" else -1)
    ids, cu_seqlens, documents = pack(slack=3)
    out = model(ids, cu_seqlens, labels=ids)
    documents = [document for document in documents if len(document)]
    logits, keep, p = merging_lm(model, documents)
    torch.testing.assert_close(out.logits[:-3], torch.cat(logits), atol=1e-8, rtol=1e-8)
    assert 0 < keep.sum() < len(ids) - 3
    torch.testing.assert_close(out.kept, keep.sum() / (len(ids) - 3))
    losses = [
        F.cross_entropy(row[:-1], ids[1:], reduction="sum")
        for row, ids in zip(logits, documents, strict=True)
    ]
    loss = sum(losses) / (len(ids) - 3 - len(documents))
    torch.testing.assert_close(out.loss, loss)
    if p is not None:
        g = sum(row[: len(ids)].sum() for row, ids in zip(p, documents, strict=True)) / (len(ids) - 3)
        f, n = keep.sum() / (len(ids) - 3), 1 / 0.3
        rate_loss = 0.03 * n / (n - 1) * ((n - 1) * f * g + (1 - f) * (1 - g))
        torch.testing.assert_close(out.rate_loss, rate_loss, check_dtype=False)
        loss = loss + rate_loss
    ours = torch.autograd.grad(out.loss + out.rate_loss, list(model.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for (name, _), mine, twin in zip(model.named_parameters(), ours, theirs, strict=True):
        torch.testing.assert_close(
            mine, twin, atol=1e-6, rtol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_policy_that_keeps_all_is_the_plain_transformer():
    model = build("all")
    ids, cu_seqlens, documents = pack(slack=2)
    out = model(ids, cu_seqlens)
    rows, mask = padded([document for document in documents if len(document)], 0)
    wanted = F.linear(stack(model.body, F.embedding(rows, model.embedding.weight), mask), model.head.weight)
    torch.testing.assert_close(out.logits[:-2], wanted[mask], atol=1e-8, rtol=1e-8)
    assert out.loss is None
    assert out.kept == 1


def test_single_precision_comes_to_the_same():
    model = build("router", "mean", "smooth")
    ids, cu_seqlens, _ = pack()
    wide = model(ids, cu_seqlens, labels=ids)
    narrow = model.float()(ids, cu_seqlens, labels=ids)
    torch.testing.assert_close(narrow.logits, wide.logits.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("policy", "reduce", "expand"), FORMS[::4])
def test_a_saved_model_comes_back(tmp_path, policy, reduce, expand):
    model = build(policy, reduce, expand)
    model.save_pretrained(tmp_path)
    again = MergingLM.from_pretrained(tmp_path, dtype=torch.float64)
    ids, cu_seqlens, _ = pack()
    assert all(torch.equal(part, again.state_dict()[name]) for name, part in model.state_dict().items())
    # To the last bit only where the tensors of the file lie at addresses as round as those in memory
    torch.testing.assert_close(
        again(ids, cu_seqlens).logits, model(ids, cu_seqlens).logits, atol=1e-12, rtol=1e-12
    )


def test_nothing_at_all_gives_nothing():
    out = build()(torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0], dtype=torch.int32))
    assert out.logits.shape == (0, 257)


def test_names_that_do_not_exist_are_refused():
    for wrong in (dict(policy="fixed"), dict(reduce="sum"), dict(expand="smear")):
        with pytest.raises(UsageError, match="choose one of"):
            build(**wrong)
    ids, cu_seqlens, _ = pack()
    with pytest.raises(UsageError, match="probabilities"):
        build("space", expand="smooth")(ids, cu_seqlens)


def test_weights_that_a_checkpoint_lacks_are_drawn(tmp_path):
    from safetensors.torch import load_file, save_file

    build("router", expand="smooth").float().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {name: part for name, part in load_file(file).items() if "norm" in name or "head" in name}
    save_file(kept, file, metadata={"format": "pt"})
    for name, part in MergingLM.from_pretrained(tmp_path).state_dict().items():
        assert torch.equal(part, kept[name]) if name in kept else part.abs().max() <= 1, name
