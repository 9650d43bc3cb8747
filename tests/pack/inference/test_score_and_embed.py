"""Log-likelihoods and vectors on packed rows are those of each text alone."""

import pytest
import torch
from families import DECODERS, small
from prompts import prompts
from small import tiny_bpe, tiny_llama
from transformers import PreTrainedTokenizerFast

from tersely.errors import PackError, UsageError
from tersely.pack import embed, score


@torch.no_grad()
def likelihood(model, given, whole):
    """Of the tokens of ``whole`` past ``given``, by themselves."""
    logits = model(torch.tensor([whole])).logits[0, given - 1 : -1].double()
    targets = torch.tensor(whole[given:])
    own = logits.log_softmax(-1).gather(1, targets[:, None])
    return own.sum().item(), bool((logits.argmax(-1) == targets).all())


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Qwen3", "GptOss", "Mistral"])
def test_scores_are_those_of_each_text_alone(family):
    model = small(family, "eager")
    pairs = [(p, tail) for p in prompts() for tail in ([5], [6], [7, 8, 9])]
    texts = [*pairs, *(p for p in prompts() if len(p) > 1)]
    for text, found in zip(texts, score(model, None, texts, token_budget=80), strict=True):
        given, whole = (len(text[0]), text[0] + text[1]) if isinstance(text, tuple) else (1, text)
        want, greedy = likelihood(model, given, whole)
        assert found.log_likelihood == pytest.approx(want, abs=1e-4)
        assert found.greedy == greedy
        assert found.tokens == len(whole) - given


def test_the_continuation_that_the_model_would_write_is_greedy():
    model = tiny_llama().eval()
    context = prompts(384)[0]
    with torch.no_grad():
        best = int(model(torch.tensor([context])).logits[0, -1].argmax())
    good, bad = score(model, None, [(context, [best]), (context, [(best + 1) % 384])])
    assert good.greedy
    assert not bad.greedy
    assert good.log_likelihood > bad.log_likelihood


def test_texts_are_cut_where_the_tokenizer_cuts_them_together():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_bpe(), eos_token="<|endoftext|>")
    model = tiny_llama(vocab_size=len(tokenizer)).eval()
    texts = [("Document 7:", " word"), ("Document 7: ", "word"), ("", "Document"), "Document 9: word"]
    found = score(model, tokenizer, texts)
    whole = tokenizer("Document 7: word")["input_ids"]
    given = len(tokenizer("Document 7:")["input_ids"])
    assert found[0] == found[1]
    assert found[0].log_likelihood == pytest.approx(likelihood(model, given, whole)[0], abs=1e-4)
    start = [tokenizer.eos_token_id, *tokenizer("Document")["input_ids"]]
    assert found[2].log_likelihood == pytest.approx(likelihood(model, 1, start)[0], abs=1e-4)
    assert found[3].tokens == len(tokenizer(texts[3])["input_ids"]) - 1


def test_a_truncation_stored_in_the_tokenizer_cuts_nothing():
    backend = tiny_bpe()
    backend.enable_truncation(3)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    model = tiny_llama(vocab_size=len(tokenizer)).eval()
    [found] = score(model, tokenizer, ["Document 1: word word word word"])
    assert found.tokens > 3


def test_what_cannot_be_scored_is_said():
    model = tiny_llama().eval()
    assert score(model, None, []) == []
    for texts in ([[5]], [([], [5])], [([5], [])]):
        with pytest.raises(PackError, match="text 0 has"):
            score(model, None, texts)
    with pytest.raises(PackError, match="there is no tokenizer"):
        score(model, None, ["text"])


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_vectors_of_decoders_are_those_of_each_text_alone(family, pooling):
    model = small(family, "eager")
    found = embed(model, prompts(), pooling=pooling, token_budget=60)
    for prompt, vector in zip(prompts(), found, strict=True):
        with torch.no_grad():
            states = model.base_model(torch.tensor([prompt])).last_hidden_state[0]
        want = {"mean": states.mean(0), "first": states[0], "last": states[-1]}[pooling]
        assert torch.allclose(vector, want, atol=1e-4)


ENCODERS = {
    "Bert": {},
    "Roberta": dict(max_position_embeddings=258),
    "XLMRoberta": dict(max_position_embeddings=258),
    "ModernBert": dict(local_attention=8, global_attn_every_n_layers=2, cls_token_id=2, sep_token_id=3),
}


@pytest.mark.parametrize("family", ENCODERS)
def test_vectors_of_encoders_are_those_of_each_text_alone(family):
    model = small(family, "eager", "Model", **ENCODERS[family])
    found = embed(model, prompts(), token_budget=60, normalize=True)
    for prompt, vector in zip(prompts(), found, strict=True):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            states = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        assert torch.allclose(vector, torch.nn.functional.normalize(states.mean(0), dim=0), atol=1e-4)


def test_a_pooling_that_is_none_is_refused():
    with pytest.raises(UsageError, match="no pooling 'sum'"):
        embed(tiny_llama(), [[2]], pooling="sum")
