"""WordPooledLM: packed against padded, its loss, its causality, its generation, its files."""

import math

import padded_words
import pytest
import torch
from safetensors.torch import load_file, save_file

from tersely.embeddings import WordPooledConfig, WordPooledLM
from tersely.embeddings.words import WordBatch
from tersely.errors import UsageError
from tersely.load import load_tokenizer
from tersely.ragged import Ragged
from tersely.tokenize import segment_pieces

DOCUMENTS = [[b"the", b" cat"], [], [b"a"], [b" unbelievable", b"s", b"\xff", b" cat"]]


def small(**settings):
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, pool_hidden_size=12, pool_num_heads=2,
        speller_hidden_size=16, speller_num_heads=2, max_word_bytes=8,
    )  # fmt: skip
    model = WordPooledLM(WordPooledConfig(**sizes | settings))
    for part in model.parameters():
        torch.nn.init.normal_(part, std=0.3)
    return model


def batch_of(documents):
    rows = [Ragged.from_rows(words) if words else Ragged.from_rows([b""])[:0] for words in documents]
    return WordBatch.from_words(Ragged.from_rows(rows))


@pytest.mark.parametrize(("slots", "pool"), [(1, "query"), (2, "query"), (1, "prefix"), (3, "mean")])
def test_packed_documents_are_as_padded_ones_and_so_are_gradients(slots, pool):
    model = small(slots=slots, pool=pool).double()
    out = model(batch_of(DOCUMENTS))
    wanted = padded_words.spelling_losses(model, DOCUMENTS)
    found = torch.nn.functional.cross_entropy(out.logits, out.layout.symbols, reduction="none")
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    parts = list(model.parameters())
    ours, theirs = torch.autograd.grad(out.loss, parts), torch.autograd.grad(wanted.mean(), parts)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_loss_counts_every_symbol_and_every_byte():
    model = small()
    out = model(batch_of(DOCUMENTS))
    words = sum(map(len, DOCUMENTS))
    size = len(b"".join(b"".join(words) for words in DOCUMENTS))
    assert out.num_bytes == size
    assert len(out.logits) == size + words + len(DOCUMENTS)
    assert out.layout.symbols.tolist() == [
        symbol for words in DOCUMENTS for symbol in (*[s for word in words for s in (*word, 256)], 257)
    ]
    torch.testing.assert_close(out.total, out.loss * (size + words + len(DOCUMENTS)))
    for part in model.parameters():
        torch.nn.init.zeros_(part)
    assert model(batch_of(DOCUMENTS)).loss.item() == pytest.approx(math.log(258))


def test_documents_do_not_influence_each_other():
    model = small(slots=2)
    together = model(batch_of(DOCUMENTS)).logits
    alone = torch.cat([model(batch_of([words])).logits for words in DOCUMENTS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pool", ["query", "prefix"])
def test_no_symbol_sees_itself_or_a_later_one(pool):
    model = small(slots=2, pool=pool)
    batch = batch_of(DOCUMENTS)
    before = model(batch)
    stream = [n for n, symbol in enumerate(before.layout.symbols.tolist()) if symbol < 256]
    for byte in (4, 8, 12, len(batch.input_ids) - 2):
        ids = batch.input_ids.clone()
        ids[byte] = (ids[byte] + 1) % 256
        after = model(ids, batch.word_cu_seqlens, batch.cu_seqlens).logits
        said = stream[byte]
        moved = (after - before.logits).abs().amax(1) > 1e-7
        assert not moved[: said + 1].any()
        assert moved[said + 1 :].any()


def test_all_ways_to_give_a_batch_are_one():
    model = small()
    texts = ["the cat, unbelievably", "", "a"]
    words = segment_pieces(texts, "gpt2", max_word_bytes=8).words
    batch = model.batch_of(texts)
    outs = [
        model(batch).loss,
        model(words).loss,
        model(batch.input_ids.to(torch.uint8), batch.word_cu_seqlens.int(), batch.cu_seqlens.int()).loss,
    ]
    assert outs[0] == outs[1] == outs[2]
    with pytest.raises(UsageError, match="give word_cu_seqlens"):
        model(batch.input_ids)
    with pytest.raises(UsageError, match="documents of words"):
        model(words.values)


def train(model, batch, knowable):
    """Until it spells the words that can be known from those before them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2000):
        out = model(batch)
        if out.words_right()[knowable].all():
            return
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    raise AssertionError("it does not learn")


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = small(slots=2, hidden_size=32, pool_hidden_size=16)
    model = WordPooledLM(model.config)
    texts = ["the cat sat on the mat", "the dog is big", "a fox", "x y"]
    train(model, model.batch_of(texts), [2, 3, 4, 5, 8, 9, 11, 13])
    return model, texts


def test_what_was_learned_is_counted_right_and_generated(trained):
    model, texts = trained
    right = model(model.batch_of(texts)).words_right()
    # Which of four texts begins cannot be known, nor whether the cat or the dog comes.
    assert right.shape == (6 + 4 + 2 + 2,)
    assert right[[2, 3, 4, 5, 8, 9, 11, 13]].all()
    assert right[[0, 6, 10, 12]].sum() <= 2
    starts = ["the cat", "the dog", "a", "x", "a fox"]
    assert model.generate(starts) == [b" sat on the mat", b" is big", b" fox", b" y", b""]
    assert model.generate(["the cat"], max_new_words=2) == [b" sat on"]
    assert model.generate(["the cat", "x"], max_new_bytes=5) == [b" sat ", b" y"]
    assert model.generate(["the cat"], max_new_words=0) == [b""]
    assert model.generate(["the cat"], max_new_bytes=0) == [b""]
    assert model.generate([]) == []


def test_no_word_is_read_after_which_nothing_is_spelled(trained, monkeypatch):
    model, _ = trained
    read = []
    step = model.step
    monkeypatch.setattr(model, "step", lambda words, *rest: read.append(words) or step(words, *rest))
    model.generate(["the cat"], max_new_words=3)
    assert read == [[b" sat"], [b" on"]]
    read.clear()
    model.generate(["the cat", "the dog"], max_new_bytes=4)
    assert read == [[b" is"]]


def recomputed(model, words, most):
    """Greedy generation by whole forward passes, symbol by symbol."""
    words, new = list(words), []
    while len(new) < most:
        word = b""
        while len(word) < model.config.max_word_bytes:
            # The word so far, one more byte in the place that is asked for; the logits of that place do not see it.
            out = model(batch_of([[*words, word + b"?"]]))
            spelled = out.layout.cu_symbols[len(words)] + len(word)
            logits = out.logits[spelled].clone()
            logits[257 if word else 256] = -torch.inf
            symbol = int(logits.argmax())
            if symbol > 255:
                break
            word += bytes([symbol])
        if not word:
            break
        words.append(word)
        new.append(word)
    return b"".join(new)


@pytest.mark.parametrize(("slots", "pool"), [(1, "query"), (2, "prefix")])
def test_generation_over_caches_is_what_recomputation_gives(slots, pool):
    model = small(slots=slots, pool=pool, max_word_bytes=5)
    batch = batch_of(DOCUMENTS)
    wanted = [recomputed(model, words, 3) for words in DOCUMENTS]
    assert model.generate(batch, max_new_words=3) == wanted
    assert len(set(wanted)) > 2


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_others(trained):
    model, _ = trained
    starts = ["the", "", "a fox", ""]
    drawn = model.generate(starts, temperature=2.0, seed=3, max_new_words=6)
    assert drawn == model.generate(starts, temperature=2.0, seed=3, max_new_words=6)
    assert drawn[:2] == model.generate(starts[:2], temperature=2.0, seed=3, max_new_words=6)
    assert drawn != model.generate(starts, temperature=2.0, seed=4, max_new_words=6)
    assert drawn[1] != drawn[3]
    with pytest.raises(UsageError, match="cannot be negative"):
        model.generate(starts, temperature=-1.0)
    with pytest.raises(UsageError, match="seed cannot be negative"):
        model.generate(starts, seed=-1)


@pytest.mark.parametrize("pool", ["query", "prefix"])
def test_a_saved_model_is_the_same_when_loaded(tmp_path, pool):
    model = small(pool=pool, slots=2)
    model.save_pretrained(tmp_path)
    loaded = WordPooledLM.from_pretrained(tmp_path)
    assert loaded.config.pool == pool
    batch = batch_of(DOCUMENTS)
    torch.testing.assert_close(loaded(batch).logits, model(batch).logits)


@pytest.mark.parametrize("pool", ["prefix", "query"])
def test_what_a_checkpoint_lacks_is_drawn_as_in_a_new_model(tmp_path, pool):
    made = WordPooledLM(small(pool=pool, slots=2).config)
    made.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if name.startswith("stack.layers.0")}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = WordPooledLM.from_pretrained(tmp_path)
    for (name, one), other in zip(made.named_parameters(), loaded.parameters(), strict=True):
        if name in kept:
            assert torch.equal(one, other)
        else:
            assert other.std().item() == pytest.approx(one.std().item(), rel=0.5), name
            assert other.mean().item() == pytest.approx(one.mean().item(), abs=0.5), name


def test_a_model_of_bytes_goes_on_with_a_subword_head(tmp_path):
    small().save_pretrained(tmp_path)
    loaded = WordPooledLM.from_pretrained(
        tmp_path, head="subword", subword_vocab_size=50, ignore_mismatched_sizes=True
    )
    assert loaded.speller.head.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert loaded.speller.embedding.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_heads_left_to_themselves_fit_any_width_that_layers_take():
    for width in (64, 512, 768, 896, 1000, 1024, 1408, 1600):
        config = WordPooledConfig(hidden_size=width, num_attention_heads=2, pool="prefix")
        with torch.device("meta"):
            WordPooledLM(config)
        assert config.speller_hidden_size >= min(64, width / 2) * config.speller_num_heads
    assert (WordPooledConfig().pool_num_heads, WordPooledConfig().speller_num_heads) == (3, 6)


def test_transformers_trainer_trains_and_evaluates_without_labels(tmp_path):
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    settings = transformers.TrainingArguments(
        tmp_path, use_cpu=True, report_to=[], max_steps=2, remove_unused_columns=False, save_strategy="no"
    )
    model, texts = small(), ["the cat", "a", "unbelievable cats"]

    def collate(rows):
        batch = vars(model.batch_of(rows))
        return {name: value for name, value in batch.items() if value is not None}

    trainer = transformers.Trainer(
        model, settings, train_dataset=texts, eval_dataset=texts, data_collator=collate
    )
    assert math.isfinite(trainer.train().training_loss)
    expected = model.eval()(model.batch_of(texts)).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-4)
    assert model(model.batch_of(texts), return_loss=False).loss is None


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="give subword_vocab_size"):
        WordPooledConfig(head="subword")
    with pytest.raises(UsageError, match="no word rule 'lines'"):
        WordPooledConfig(word_rule="lines")


def test_a_subword_head_spells_words_in_the_ids_of_a_tokenizer(bpe_json, tmp_path):
    (tmp_path / "tokenizer.json").write_text(bpe_json)
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer.json"))
    size = tokenizer.vocab_size
    model = small(head="subword", subword_vocab_size=size)
    model = WordPooledLM(model.config)
    texts = ["the cat sat", "a fox", ""]
    batch = model.batch_of(texts, tokenizer)
    train(model, batch, [1, 2, 4])
    out = model(batch)
    pieces = [tokenizer.encode([word])[0].tolist() for word in ["the", " cat", " sat", "a", " fox"]]
    spelled = [[*word, size] for word in pieces]
    ends = [[size + 1]]
    expected = [symbol for word in [*spelled[:3], *ends, *spelled[3:], *ends * 2] for symbol in word]
    assert out.layout.symbols.tolist() == expected
    assert out.num_bytes == 16
    assert out.words_right()[[1, 2, 4]].all()
    assert model.generate(["the", "a"], tokenizer=tokenizer) == [b" cat sat", b" fox"]
    with pytest.raises(UsageError, match="give batch_of the tokenizer, or piece_ids"):
        model(model.batch_of(texts))
    with pytest.raises(UsageError, match="writes ids of a tokenizer"):
        model.generate(["the"])


def test_a_tokenizer_that_the_head_does_not_know_is_refused(bpe_json, tmp_path):
    (tmp_path / "tokenizer.json").write_text(bpe_json)
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer.json"))
    narrow = small(head="subword", subword_vocab_size=tokenizer.vocab_size - 1)
    for model, message in ((narrow, "as large a subword_vocab_size"), (small(), "spells bytes: give none")):
        with pytest.raises(UsageError, match=message):
            model.batch_of(["the cat"], tokenizer)
        with pytest.raises(UsageError, match=message):
            model.generate(["the cat"], tokenizer=tokenizer)
