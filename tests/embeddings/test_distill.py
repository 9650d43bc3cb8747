"""Rows that are trained: what is compared, what moves, and that it helps on text that was not seen."""

import numpy as np
import pytest
import torch
from small_tokenizers import BERT_PARTS, SENTENCES, byte_level, fast, unigram, wordpiece

from tersely.embeddings import swap_tokenizer
from tersely.embeddings.transfer import distill
from tersely.embeddings.transfer.distill import distill_rows
from tersely.embeddings.transfer.quality import Pooling, pooled
from tersely.embeddings.transfer.rows_adam import RowsAdam
from tersely.embeddings.transfer.tables import Tables
from tersely.embeddings.transfer.word_ends import word_ends
from tersely.errors import UsageError

SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXTS = SENTENCES * 3


@pytest.fixture(scope="module")
def piece():
    return fast(wordpiece(), **BERT_PARTS)


@pytest.fixture(scope="module")
def gpt():
    return fast(byte_level(), bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def opens_by_itself():
    """As ``gpt``, but with the special token in front of what it is given."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_level()
    end = "<|endoftext|>"
    tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    return fast(tokenizer, bos_token=end, eos_token=end)


def bert(tokenizer):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig(**SMALL, vocab_size=len(tokenizer), pad_token_id=0))
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.5)
    return model


def llama(tokenizer, tied):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **SMALL, vocab_size=len(tokenizer), num_key_value_heads=2, tie_word_embeddings=tied, pad_token_id=None
    )
    return LlamaForCausalLM(config)


def test_words_end_where_both_tokenizations_end_and_no_word_goes_on():
    old = [(0, 0), (0, 3), (3, 7), (7, 9), (9, 14), (0, 0)]
    new = [(0, 3), (3, 9), (9, 12), (12, 14)]
    assert word_ends("The foxes rest", old, new) == [(1, 0), (3, 1), (4, 3)]
    assert word_ends("ab", [(0, 1), (1, 2)], [(0, 1), (1, 2)]) == [(1, 1)]


def test_the_last_byte_of_a_character_ends_it():
    assert word_ends("\u4e2d x", [(0, 1), (1, 3)], [(0, 1), (0, 1), (0, 1), (1, 3)]) == [(0, 2), (1, 3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_are_always_touched_move_as_with_torchs_adam(dtype):
    torch.manual_seed(0)
    table = torch.randn(5, 3)
    mine, peer = table.to(dtype), torch.nn.Parameter(table.to(dtype).float())
    adam, other = RowsAdam(mine), torch.optim.Adam([peer], lr=0.01)
    for _ in range(10):
        gradient = torch.randn(2, 3)
        adam.step(torch.tensor([1, 3]), gradient, 0.01)
        peer.grad = torch.zeros(5, 3)
        peer.grad[[1, 3]] = gradient
        other.step()
    assert torch.allclose(mine, peer.to(dtype), atol=1e-6)
    assert (mine[[0, 2, 4]] == table[[0, 2, 4]].to(dtype)).all()


def test_pooling_leaves_out_what_is_padded():
    last = torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.allclose(pooled(last, mask, Pooling.MEAN)[0], last[0, :2].mean(0))
    assert (pooled(last, mask, Pooling.CLS) == last[:, 0]).all()


@pytest.mark.parametrize("make", [byte_level, unigram])
def test_an_encoder_comes_nearer_to_the_original_on_unseen_text(piece, make):
    figures, target = {}, make()
    for steps in (0, 40):
        model = bert(piece)
        _, report = swap_tokenizer(model, piece, target, "fit", TEXTS, distill=steps)
        figures[steps] = report.quality
    assert 1 - figures[40].cosine < 0.8 * (1 - figures[0].cosine)
    if (
        make is byte_level
    ):  # Unigrams differ from training to training, and the correlation with them, up or down
        assert figures[40].spearman > figures[0].spearman


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_needs_fewer_bits_after_training_and_keeps_its_body(gpt, tied):
    model = llama(gpt, tied).train()
    model.get_input_embeddings().weight.requires_grad_(False)
    body = {name: part.clone() for name, part in model.state_dict().items()}
    target = unigram()
    _, before = swap_tokenizer(llama(gpt, tied), gpt, target, "fit", TEXTS)
    model, report = swap_tokenizer(model, gpt, target, "fit", TEXTS, distill=20)
    assert report.quality.bits_per_byte_after < before.quality.bits_per_byte_after
    changed = {
        name
        for name, part in model.state_dict().items()
        if part.shape != body[name].shape or (part != body[name]).any()
    }
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}
    assert model.training
    assert not model.get_input_embeddings().weight.requires_grad
    assert all(part.requires_grad for part in model.model.layers.parameters())
    assert all(part.grad is None for part in model.parameters())
    assert report.to_dict()["distill"]["steps"] == 20
    assert "20 steps" in str(report)


def test_the_original_is_run_with_its_own_rows(piece):
    """With the tokenizer it had, the swapped model gives the original's states, and nothing is left to learn."""
    model = bert(piece)
    losses = distill_rows(model, Tables.of(model).kept(), piece, piece, TEXTS[:8], 2, batch=4)
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses[1] < 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_tokens_that_a_decoder_does_not_read_stay_though_its_softmax_pushes_them(gpt, tied):
    model, target = llama(gpt, tied), unigram()
    old = Tables.of(model).kept()
    model, report = swap_tokenizer(model, gpt, target, "mean", TEXTS)
    before = {name: part.detach().clone() for name, part in Tables.of(model).named()}
    used = report.tokenizer
    distill_rows(model, old, gpt, used, TEXTS[:4], 3, batch=4)
    read = np.unique(np.concatenate([used(text)["input_ids"] for text in TEXTS[:4]] + [[used.bos_token_id]]))
    for name, part in Tables.of(model).named():
        moved = (part != before[name]).any(1).numpy()
        assert np.array_equal(np.flatnonzero(moved), read), name


@pytest.mark.parametrize("tied", [True, False])
def test_logits_in_slices_train_as_all_at_once(gpt, tied, monkeypatch):
    rows = []
    for logits in (distill.LOGITS, 1, 3000):
        monkeypatch.setattr(distill, "LOGITS", logits)
        model = llama(gpt, tied)
        losses = distill_rows(model, Tables.of(model).kept(), gpt, gpt, TEXTS[:6], 3, batch=4)
        rows.append((losses, *(part.detach().numpy() for _, part in Tables.of(model).named())))
    for other in rows[1:]:
        np.testing.assert_allclose(other[0], rows[0][0], rtol=1e-5)
        for mine, right in zip(other[1:], rows[0][1:], strict=True):
            assert np.abs(mine - right).mean() < 1e-6


def test_a_decoder_learns_from_whole_texts_that_are_opened_and_an_encoder_from_parts(gpt, piece):
    """Each way through the body is one call: the old ids, then the new ones."""
    read = []

    def note(module, args, kwargs):
        read.extend(zip(kwargs["input_ids"].tolist(), kwargs["attention_mask"].sum(1).tolist(), strict=True))

    long = " ".join(SENTENCES)
    opens = opens_by_itself()
    models = ((gpt, llama(gpt, True), True), (opens, llama(opens, True), True), (piece, bert(piece), False))
    for tokenizer, model, decodes in models:
        read.clear()
        model.base_model.register_forward_pre_hook(note, with_kwargs=True)
        distill_rows(model, Tables.of(model).kept(), tokenizer, tokenizer, [long], 1, batch=1)
        whole = tokenizer(long, truncation=True, max_length=400)["input_ids"]
        opened = [tokenizer.bos_token_id, *whole] if tokenizer is gpt else whole
        found = [row[:length] for row, length in read]
        assert len(found) == 2
        assert all((row[: len(opened)] == opened[: len(row)]) is decodes for row in found)
        assert all((len(row) >= len(opened)) is decodes for row in found)


def test_the_same_seed_gives_the_same_rows(piece):
    rows, target = [], unigram()
    for seed in (0, 0, 1):
        model, _ = swap_tokenizer(bert(piece), piece, target, "mean", TEXTS, distill=3, seed=seed)
        rows.append(model.get_input_embeddings().weight.detach().numpy())
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


def test_a_table_in_half_precision_is_trained_and_stays_so(piece):
    model, report = swap_tokenizer(bert(piece).bfloat16(), piece, unigram(), "mean", TEXTS, distill=5)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert len(report.losses) == 5


def test_training_without_texts_is_refused(piece):
    with pytest.raises(UsageError, match="give a corpus"):
        swap_tokenizer(bert(piece), piece, unigram(), "mean", distill=5)
    model = bert(piece)
    with pytest.raises(UsageError, match="give texts"):
        distill_rows(model, Tables.of(model).kept(), piece, piece, [], 5)
