"""MrT5 on packed values, against its padded form in plain torch and against transformers' T5."""

import pytest
import torch
import transformers
from merging_twins import padded_logits
from transformers import T5Config, T5ForConditionalGeneration

from tersely.compress import MergingByT5
from tersely.compress.merge.t5 import MergingByT5Config
from tersely.errors import UsageError

SMALL = dict(
    vocab_size=260, d_model=32, d_kv=8, d_ff=40, num_layers=4, num_decoder_layers=2, num_heads=4,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0, dropout_rate=0.0,
)  # fmt: skip
SOURCES, TARGETS = [150, 1, 37, 9], [5, 3, 1, 12]


def merging(**settings):
    """A small model whose gate keeps about half and whose weights are large enough to matter."""
    torch.manual_seed(0)
    model = MergingByT5(MergingByT5Config(**SMALL, **{"gate_layer": 2} | settings))
    with torch.no_grad():
        for name, part in model.named_parameters():
            if "relative_attention_bias" in name:
                part.normal_()
        if model.config.policy == "gate":
            model.encoder.policy.weight.normal_(std=0.3)
            model.encoder.policy.bias.zero_()
    return model


def batch(sources=SOURCES, targets=TARGETS):
    """Padded ids, mask, decoder ids and labels."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 260, (len(sources), max(sources)), generator=generator)
    mask = torch.arange(max(sources)) < torch.tensor(sources)[:, None]
    labels = torch.randint(3, 260, (len(targets), max(targets)), generator=generator)
    labels[torch.arange(max(targets)) >= torch.tensor(targets)[:, None]] = -100
    return ids.masked_fill(~mask, 0), mask.long(), labels


def packed(sources, targets, ids, labels):
    """The same documents without padding."""
    return dict(
        input_ids=torch.cat([row[:length] for row, length in zip(ids, sources, strict=True)]),
        cu_seqlens=torch.tensor([0, *torch.tensor(sources).cumsum(0)], dtype=torch.int32),
        labels=torch.cat([row[:length] for row, length in zip(labels, targets, strict=True)]),
        decoder_cu_seqlens=torch.tensor([0, *torch.tensor(targets).cumsum(0)], dtype=torch.int32),
    )


def rows_of(logits, lengths):
    return torch.cat([row[:length] for row, length in zip(logits, lengths, strict=True)])


@pytest.mark.parametrize("one", [False, True])
def test_soft_deletion_is_the_padded_form_forward_and_backward(one):
    model = merging(softmax_plus_one=one).train()
    ids, mask, labels = batch()
    found = model(**packed(SOURCES, TARGETS, ids, labels))
    wanted, gate = padded_logits(model, ids, mask, model._shift_right(labels))
    real = mask.bool()
    torch.testing.assert_close(found.logits, rows_of(wanted, TARGETS), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.gate, gate[real], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.gate_mean, gate[real].mean())
    for number in (0, 2, 3):  # the document of one byte keeps it in any case
        assert (
            found.keep.split(SOURCES)[number].tolist() == (gate[real] > -15).split(SOURCES)[number].tolist()
        )
    torch.testing.assert_close(found.deleted, 1 - found.keep.float().mean())
    assert 0.2 < found.deleted < 0.8
    loss = torch.nn.functional.cross_entropy(wanted.flatten(0, 1), labels.flatten()) + 0.1 * gate[real].mean()
    parts = dict(model.named_parameters())
    theirs = torch.autograd.grad(loss, list(parts.values()))
    ours = torch.autograd.grad(found.loss + 0.1 * found.gate_mean, list(parts.values()))
    for name, one_of_ours, one_of_theirs in zip(parts, ours, theirs, strict=True):
        size = one_of_theirs.abs().max().item()
        assert size > 0, name
        torch.testing.assert_close(one_of_ours, one_of_theirs, atol=2e-4 * size, rtol=1e-3, msg=name)


@pytest.mark.parametrize("one", [False, True])
def test_hard_deletion_is_masking_what_is_below_the_threshold(one):
    model = merging(softmax_plus_one=one).eval()
    ids, mask, labels = batch()
    with torch.no_grad():
        wanted, _ = padded_logits(model, ids, mask, model._shift_right(labels), soft=False)
        found = model(**packed(SOURCES, TARGETS, ids, labels))
        padded = model(input_ids=ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(found.logits, rows_of(wanted, TARGETS), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(padded.logits, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(padded.loss, found.loss)


def test_hard_deletion_is_soft_deletion_with_a_saturated_gate():
    model = merging(gate_scale=-1e6).eval()
    with torch.no_grad():  # every logit far from 0, so that G is 0 or -1e6
        model.encoder.policy.weight.mul_(1e4)
    ids, _, labels = batch()
    documents = packed(SOURCES, TARGETS, ids, labels)
    with torch.no_grad():
        soft, hard = model(**documents, hard=False), model(**documents)
    assert 0.2 < hard.deleted < 0.8
    torch.testing.assert_close(hard.logits, soft.logits, atol=1e-4, rtol=1e-4)


def test_hard_deletion_in_training_reaches_the_gate():
    model = merging().train()
    ids, mask, labels = batch()
    found = model(**packed(SOURCES, TARGETS, ids, labels), hard=True)
    wanted, _ = padded_logits(model, ids, mask, model._shift_right(labels), soft=False)
    loss = torch.nn.functional.cross_entropy(wanted.flatten(0, 1), labels.flatten())
    parts = [model.encoder.policy.weight, model.shared.weight]
    ours, theirs = (torch.autograd.grad(x, parts, retain_graph=True) for x in (found.loss, loss))
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x, y, atol=2e-4 * y.abs().max().item(), rtol=1e-3)


def test_without_a_policy_it_is_transformers_own_model():
    torch.manual_seed(0)
    theirs = T5ForConditionalGeneration(T5Config(**SMALL)).train()
    ours = MergingByT5(MergingByT5Config(**SMALL, policy="none")).train()
    ours.load_state_dict(theirs.state_dict())
    ids, mask, labels = batch()
    mask[2, :5] = 0  # on the left, too
    mask[3, 4] = 0  # and between
    found, wanted = (model(input_ids=ids, attention_mask=mask, labels=labels) for model in (ours, theirs))
    torch.testing.assert_close(found.logits, wanted.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.loss, wanted.loss)
    gradients = [
        torch.autograd.grad(x.loss, list(m.parameters())) for x, m in ((found, ours), (wanted, theirs))
    ]
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y, atol=2e-4 * y.abs().max().item(), rtol=1e-3)


@pytest.mark.parametrize("hard", [False, True])
def test_empty_documents_change_nothing(hard):
    model = merging().eval()
    sources, targets = [0, 9, 0, 1, 0], [4, 5, 0, 1, 2]
    ids, _, labels = batch(sources, targets)
    with torch.no_grad():
        found = model(**packed(sources, targets, ids, labels), hard=hard)
        alone = [
            model(**packed([sources[i]], [targets[i]], ids[i : i + 1], labels[i : i + 1]), hard=hard).logits
            for i in range(5)
        ]
    torch.testing.assert_close(found.logits, torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert found.logits.isfinite().all()


@pytest.mark.parametrize("label", [-100, 7])
def test_slack_rows_change_nothing(label):
    model = merging().eval()
    ids, _, labels = batch()
    documents = packed(SOURCES, TARGETS, ids, labels)
    slack = documents | {
        "input_ids": torch.cat([documents["input_ids"], torch.full((7,), 5)]),
        "labels": torch.cat([documents["labels"], torch.full((3,), label)]),
    }
    with torch.no_grad():
        found, wanted = model(**slack), model(**documents)
    torch.testing.assert_close(found.loss, wanted.loss)
    torch.testing.assert_close(found.deleted, wanted.deleted)
    torch.testing.assert_close(found.gate_mean, wanted.gate_mean)


@pytest.mark.parametrize("policy", ["gate", "random", "stride", "fixed"])
def test_an_exact_share_stays_and_the_rest_is_as_if_it_had_never_been_seen(policy):
    model = merging(policy=policy, share=0.4).eval()
    ids, mask, labels = batch()
    documents = packed(SOURCES, TARGETS, ids, labels)
    with torch.no_grad():
        found = model(**documents)
        kept = [int(part.sum()) for part in found.keep.split(SOURCES)]
        if policy == "fixed":
            assert all(0.4 * n <= k <= n for k, n in zip(kept, SOURCES, strict=True))
        else:
            assert kept == [60, 1, 15, 4]
        keep = torch.zeros_like(mask, dtype=torch.bool)
        keep[mask.bool()] = found.keep
        wanted, _ = padded_logits(model, ids, mask, model._shift_right(labels), keep=keep)
    torch.testing.assert_close(found.logits, rows_of(wanted, TARGETS), atol=1e-4, rtol=1e-4)


def test_a_document_that_would_lose_everything_keeps_its_best_position():
    model = merging().eval()
    with torch.no_grad():
        model.encoder.policy.bias.fill_(-1e3 * model.encoder.policy.weight.abs().sum())
    ids, _, labels = batch()
    with torch.no_grad():
        found = model(**packed(SOURCES, TARGETS, ids, labels))
    assert [int(part.sum()) for part in found.keep.split(SOURCES)] == [1, 1, 1, 1]


def test_a_new_model_begins_as_a_new_t5():
    theirs = dict(T5ForConditionalGeneration(T5Config(**SMALL)).named_parameters())
    for name, part in MergingByT5(MergingByT5Config(**SMALL)).named_parameters():
        if "policy" not in name and part.dim() > 1:
            assert part.std().item() == pytest.approx(theirs[name].std().item(), rel=0.25), name


@pytest.mark.filterwarnings("error:.*dtype.*")
def test_in_float16_it_is_as_near_as_transformers_own_model(tmp_path):
    T5ForConditionalGeneration(T5Config(**SMALL)).save_pretrained(tmp_path)
    ids, mask, labels = batch()

    def logits_of(model):
        return rows_of(model.eval()(input_ids=ids, attention_mask=mask, labels=labels).logits, TARGETS)

    exact = logits_of(T5ForConditionalGeneration.from_pretrained(tmp_path))
    theirs = logits_of(T5ForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float16))
    config = MergingByT5Config.from_pretrained(tmp_path, policy="none")
    mine = logits_of(MergingByT5.from_pretrained(tmp_path, config=config, dtype=torch.float16))
    assert mine.dtype is torch.float16
    assert (mine - exact).norm() < 1.5 * (theirs - exact).norm()
    gated = MergingByT5.from_pretrained(tmp_path, dtype=torch.float16)
    assert logits_of(gated).isfinite().all()
    assert gated.generate(ids, attention_mask=mask, max_new_tokens=3).shape == (4, 4)


def test_a_t5_folder_loads_and_its_own_folder_loads_back(tmp_path):
    theirs = T5ForConditionalGeneration(T5Config(**SMALL))
    theirs.save_pretrained(tmp_path / "t5")
    model, report = MergingByT5.from_pretrained(tmp_path / "t5", gate_layer=1, output_loading_info=True)
    assert report["missing_keys"] == {f"encoder.policy.{name}" for name in ("weight", "bias", "norm.weight")}
    assert model.encoder.policy.bias.item() == 1
    assert 0 < model.encoder.policy.weight.abs().max() < 1
    torch.testing.assert_close(
        model.encoder.block[3].layer[1].layer_norm.weight, theirs.encoder.block[3].layer[1].layer_norm.weight
    )
    torch.testing.assert_close(model.shared.weight, theirs.shared.weight)
    assert model.encoder.embed_tokens.weight is model.shared.weight
    model.save_pretrained(tmp_path / "ours")
    again, report = MergingByT5.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert again.config.gate_layer == 1
    ids, mask, labels = batch()
    with torch.no_grad():
        found, wanted = (m.eval()(input_ids=ids, attention_mask=mask, labels=labels) for m in (again, model))
    torch.testing.assert_close(found.logits, wanted.logits)


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_greedy_generation_is_the_best_token_of_a_whole_forward_each_time(one, soft):
    model = merging(softmax_plus_one=one).eval()
    model.shared.weight.data.mul_(0.1)  # a small stream: else each position says its own id again
    ids, mask, _ = batch()
    settings = {"hard": False} if soft else {}
    made = model.generate(
        ids, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None, **settings
    )
    said = torch.zeros(len(ids), 1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(6):
            logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=said, **settings).logits
            said = torch.cat([said, logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert made.tolist() == said.tolist()
    assert len(set(made[:, 1:].flatten().tolist())) > 2


@pytest.mark.parametrize("how", [dict(num_beams=3), dict(do_sample=True, num_return_sequences=2)])
def test_beams_and_samples_are_generated(how):
    model = merging(softmax_plus_one=True).eval()
    ids, mask, _ = batch()
    made = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=4,
        eos_token_id=None,
        output_scores=True,
        return_dict_in_generate=True,
        **how,
    )
    assert made.sequences.shape == (4 * how.get("num_return_sequences", 1), 5)
    if "num_beams" in how:
        with torch.no_grad():
            logits = model(
                input_ids=ids, attention_mask=mask, decoder_input_ids=made.sequences[:, :-1]
            ).logits
        chosen = logits.log_softmax(-1).gather(-1, made.sequences[:, 1:, None]).sum((1, 2)) / 4
        torch.testing.assert_close(made.sequences_scores, chosen, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="gate_layer is 9"):
        merging(gate_layer=9)
    with pytest.raises(UsageError, match="policy"):
        merging(policy="nothing")
    with pytest.raises(UsageError, match="share"):
        merging(policy="random")
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        merging(share=1.5)
    with pytest.raises(UsageError, match="negative"):
        merging(gate_scale=3.0)
    ids, _, labels = batch()
    documents = packed(SOURCES, TARGETS, ids, labels)
    with pytest.raises(UsageError, match="decoder_cu_seqlens"):
        merging()(**documents | {"decoder_cu_seqlens": None})
    with pytest.raises(UsageError, match="labels"):
        merging()(input_ids=ids)
    model = merging()
    del model.config.decoder_start_token_id
    for given in (documents, dict(input_ids=ids, labels=labels)):
        with pytest.raises(UsageError, match="decoder_start_token_id"):
            model(**given)


def test_transformers_trainer_gets_a_mean_loss_and_predicts_logits(tmp_path):
    pytest.importorskip("accelerate")
    ids, mask, labels = batch()
    rows = [
        dict(zip(("input_ids", "attention_mask", "labels"), row, strict=True))
        for row in zip(ids, mask, labels, strict=True)
    ]
    settings = transformers.TrainingArguments(
        tmp_path, use_cpu=True, report_to=[], per_device_eval_batch_size=4
    )
    trainer = transformers.Trainer(merging(), settings)
    assert not trainer.model_accepts_loss_kwargs
    predicted = trainer.predict(rows)
    expected = trainer.model.eval()(input_ids=ids, attention_mask=mask, labels=labels).logits
    torch.testing.assert_close(torch.from_numpy(predicted.predictions), expected.detach())
