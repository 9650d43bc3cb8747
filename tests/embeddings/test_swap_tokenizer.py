"""Whole swaps of small random models: what must be the same, what is refused, and what is said."""

import json

import pytest
import torch
from small_tokenizers import BERT_PARTS, SENTENCES, byte_fallback, byte_level, fast, unigram, wordpiece
from torch import nn

from tersely.embeddings import swap_folder, swap_tokenizer
from tersely.embeddings.transfer import folder as transfer_folder
from tersely.embeddings.transfer.match import ORIGINS, Origin
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import EmbeddingError, TokenizeError, UsageError

TEXTS = SENTENCES[::2]
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
GPT2_PARTS = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
LLAMA_PARTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.fixture(scope="module")
def source():
    return fast(byte_level(), **GPT2_PARTS)


@pytest.fixture(scope="module")
def piece():
    return fast(wordpiece(), **BERT_PARTS)


def llama(tokenizer, tied=False, spare=0, kind="llama"):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        **SMALL,
        vocab_size=len(tokenizer) + spare,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def bert(tokenizer):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**SMALL, vocab_size=len(tokenizer), pad_token_id=0)).eval()
    nn.init.normal_(model.get_output_embeddings().bias)
    return model


def logits(model, tokenizer, text=SENTENCES[0]):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits


@pytest.mark.parametrize("method", ["mean", "fit"])
@pytest.mark.parametrize("spare", [0, 14])
def test_the_same_tokenizer_changes_nothing(source, method, spare):
    model = llama(source, spare=spare)
    before = logits(model, source)
    model, report = swap_tokenizer(model, source, source, method, TEXTS)
    assert (logits(model, report.tokenizer) == before).all()
    assert set(report.counts) == set(Origin)
    assert report.counts["copied"] + report.counts["special"] == len(source)
    assert report.quality.bits_per_byte_after == report.quality.bits_per_byte_before
    assert report.warnings == []


def test_the_same_tokenizer_changes_nothing_in_an_encoder_with_a_bias(piece):
    model = bert(piece)
    before = logits(model, piece)
    model, report = swap_tokenizer(model, piece, piece, "fit", TEXTS)
    assert report.tokenizer("a walk", "a fox") == piece("a walk", "a fox")
    assert (logits(model, report.tokenizer) == before).all()
    assert report.quality.cosine == pytest.approx(1)
    assert report.quality.neighbours == 1


@pytest.mark.parametrize("tied", [True, False])
def test_there_and_back_restores_every_shared_row_exactly(source, tied):
    """The tokens of the first vocabulary are among those of the second, which is trained on from it."""
    larger = fast(byte_level(520), **GPT2_PARTS)
    assert set(source.get_vocab()) < set(larger.get_vocab())
    model = llama(source, tied)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    model, there = swap_tokenizer(model, source, larger, "fit", TEXTS)
    assert model.get_input_embeddings().weight.shape[0] == len(larger)
    model, back = swap_tokenizer(model, larger, source, "fit", TEXTS)
    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, part in before.items():
        assert (part == after[name]).all(), name
    assert there.counts["fitted"] > 20
    assert back.counts["fitted"] == back.counts["composed"] == 0
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied


@pytest.mark.parametrize("make", [byte_fallback, unigram, byte_level, wordpiece])
@pytest.mark.parametrize("method", ["mean", "fit"])
def test_an_encoder_takes_any_family_and_keeps_its_special_tokens(piece, make, method):
    model, old = bert(piece), bert(piece)
    model, report = swap_tokenizer(model, piece, make(), method, TEXTS)
    used, vocabulary = report.tokenizer, piece.get_vocab()
    ids = used("The quick fox")["input_ids"]
    assert [ids[0], ids[-1]] == [used.cls_token_id, used.sep_token_id]
    pair = used("fox", "dog", return_token_type_ids=True)
    assert pair["input_ids"].count(used.sep_token_id) == 2
    assert sorted(set(pair["token_type_ids"])) == [0, 1]
    for token in BERT_PARTS.values():
        for get in ("get_input_embeddings", "get_output_embeddings"):
            new_row = getattr(model, get)().weight[used.convert_tokens_to_ids(token)]
            assert (new_row == getattr(old, get)().weight[vocabulary[token]]).all()
    bias, old_bias = model.get_output_embeddings().bias, old.get_output_embeddings().bias
    for number, origin in enumerate(report.origins):
        if ORIGINS[origin] is Origin.COPIED and used.convert_ids_to_tokens(number).isalnum():
            assert bias[number] in old_bias
    assert model.config.vocab_size == len(used) == len(bias)
    assert model.config.pad_token_id == used.pad_token_id == model.get_input_embeddings().padding_idx
    assert 0 < report.quality.cosine < 1.0001
    assert report.norms["inputs"].before > 0


def test_a_corpus_tells_which_tokens_begin_words(piece):
    signed = [text.replace(" over", "(over") for text in TEXTS]
    target = byte_level(500, signed)
    number = target.get_vocab()["over"]
    pieces, old = Decomposition(piece, ByteView.of(piece)), bert(piece).get_input_embeddings().weight
    begun, inside = (old[pieces(token)].mean(0) for token in (b" over", b"over"))
    assert not torch.allclose(begun, inside, atol=1e-3)
    for corpus, row in ((signed, begun), ([f"(walkover {day}" for day in range(40)], inside), (None, inside)):
        model, report = swap_tokenizer(bert(piece), piece, target, "mean", corpus)
        assert ORIGINS[report.origins[number]] is Origin.COMPOSED
        assert torch.allclose(model.get_input_embeddings().weight[number], row, atol=1e-6)


def test_ordinary_ids_are_those_of_the_target(source):
    target = unigram()
    _, report = swap_tokenizer(llama(source), source, target, "mean")
    for text in SENTENCES[:5]:
        assert report.tokenizer(text, add_special_tokens=False)["input_ids"] == target.encode(text).ids
    assert report.quality is None
    assert report.tokens_per_byte_before is None


def test_special_tokens_may_be_mapped_instead(source):
    model = llama(source)
    old = model.get_input_embeddings().weight.clone()
    target = fast(byte_fallback(), **LLAMA_PARTS)
    model, report = swap_tokenizer(model, source, target, "mean", special_tokens="map")
    assert report.vocab_size_after == len(target)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == target.eos_token_id
    row = model.get_input_embeddings().weight[target.eos_token_id]
    assert (row == old[source.eos_token_id]).all()


def test_ids_in_the_settings_follow_their_tokens(source):
    model = llama(source)
    model.generation_config.eos_token_id = [source.eos_token_id, 300]
    model.generation_config.suppress_tokens = [7]
    model, report = swap_tokenizer(model, source, byte_fallback(), "mean")
    assert model.generation_config.eos_token_id[0] == report.tokenizer.eos_token_id
    assert model.config.bos_token_id == report.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert any("suppress_tokens" in sentence for sentence in report.warnings)


def test_rows_of_sixteen_bits_are_copied_to_the_bit(source):
    model = llama(source).to(torch.bfloat16)
    old = model.get_output_embeddings().weight.clone()
    larger = fast(byte_level(520), **GPT2_PARTS)
    model, _ = swap_tokenizer(model, source, larger, "fit", TEXTS)
    new = model.get_output_embeddings().weight
    assert new.dtype == torch.bfloat16
    for token, number in source.get_vocab().items():
        assert (new[larger.get_vocab()[token]] == old[number]).all()


def test_a_corpus_too_small_to_measure_on_is_told(source):
    _, report = swap_tokenizer(llama(source), source, byte_level(420), "fit", TEXTS[:3])
    assert report.quality is None
    assert any("too small to measure on" in sentence for sentence in report.warnings)


def test_numbers_that_are_cut_differently_are_warned_of(source):
    from tokenizers import pre_tokenizers

    single = byte_level(texts=[*SENTENCES, *["day 1234567"] * 20])
    assert "\u01201234567" in fast(single).tokenize(" 1234567")
    with_numbers = fast(single, **GPT2_PARTS)
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    target = byte_level()
    target.pre_tokenizer = split
    _, report = swap_tokenizer(llama(with_numbers), with_numbers, target, "mean")
    assert any("1234567 was 1234567 and is 1|2|3|4|5|6|7" in sentence for sentence in report.warnings)


def test_chat_tokens_that_fall_apart_are_warned_of(source):
    source = fast(byte_level(), **GPT2_PARTS)
    source.add_tokens(["<|user|>"])  # not a special token, so it is not carried over
    source.chat_template = "{% for m in messages %}<|user|>{{ m.content }}<|endoftext|>{% endfor %}"
    _, report = swap_tokenizer(llama(source), source, byte_level(), "mean")
    assert report.tokenizer.chat_template == source.chat_template
    assert any("<|user|>" in sentence and "<|endoftext|>" not in sentence for sentence in report.warnings)


def test_the_report_prints_and_becomes_json(source):
    _, report = swap_tokenizer(llama(source), source, unigram(), "fit", TEXTS)
    printed, plain = str(report), json.loads(json.dumps(report.to_dict()))
    for words in ("by fit", "copied", "tokens per byte", "bits per byte", "head"):
        assert words in printed
    assert sum(plain["rows"].values()) == plain["vocab_size_after"] == len(report.origins)
    assert plain["quality"]["bits_per_byte_before"] > 0


def test_what_cannot_be_swapped_is_refused_by_name(source):
    target = byte_level(420)
    with pytest.raises(UsageError, match="give corpus=texts"):
        swap_tokenizer(llama(source), source, target)
    with pytest.raises(UsageError, match="choose one of 'mean', 'fit'"):
        swap_tokenizer(llama(source), source, target, "guess")
    with pytest.raises(UsageError, match="list of texts"):
        swap_tokenizer(llama(source), source, target, "fit", "a text")
    with pytest.raises(TokenizeError, match="AutoTokenizer"):
        swap_tokenizer(llama(source), byte_level(), target, "mean")
    with pytest.raises(EmbeddingError, match="that it was trained with"):
        swap_tokenizer(llama(source), fast(byte_level(500)), target, "mean")
    adapted = llama(source)
    adapted.peft_config = {"default": object()}
    with pytest.raises(EmbeddingError, match="merge_and_unload"):
        swap_tokenizer(adapted, source, target, "mean")
    quantised = llama(source)
    quantised.model.embed_tokens.weight = nn.Parameter(
        torch.zeros(len(source), 16, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(EmbeddingError, match="quantised"):
        swap_tokenizer(quantised, source, target, "mean")
    layered = llama(source)
    layered.model.embed_tokens_per_layer = nn.Embedding(len(source), 4)
    with pytest.raises(EmbeddingError, match="embed_tokens_per_layer"):
        swap_tokenizer(layered, source, target, "mean")


def test_positions_counted_from_the_id_for_padding_keep_it():
    from transformers import RobertaConfig, RobertaForMaskedLM

    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    source, moved = (
        fast(byte_level(size, specials=specials), **names)
        for size, specials in ((400, ["<s>", "<pad>", "</s>"]), (420, ["<s>", "</s>", "<pad>"]))
    )
    config = RobertaConfig(**SMALL, vocab_size=400, max_position_embeddings=400, pad_token_id=1)
    model = RobertaForMaskedLM(config).eval()
    with pytest.raises(EmbeddingError, match="as id 1"):
        swap_tokenizer(model, source, moved, "mean")
    kept = fast(byte_level(420, specials=["</s>", "<pad>", "<s>"]), **names)
    model, report = swap_tokenizer(model, source, kept, "mean")
    assert model.config.pad_token_id == 1
    assert logits(model, report.tokenizer).shape[-1] == len(kept)


@pytest.fixture
def saved(tmp_path, source):
    """Saves a model with its tokenizer, and a target, and returns their places and one for the result."""

    def save(model):
        model.save_pretrained(tmp_path / "model")
        source.save_pretrained(tmp_path / "model")
        byte_fallback().save(str(tmp_path / "tokenizer.json"))
        return tmp_path / "model", tmp_path / "tokenizer.json", tmp_path / "out"

    return save


def test_a_folder_is_swapped_and_loads(saved, source):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report = swap_folder(*(places := saved(llama(source))), "fit", TEXTS)
    model, tokenizer = (kind.from_pretrained(places[2]) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert model.config.vocab_size == len(tokenizer) == report.vocab_size_after
    assert tokenizer.eos_token == "<|endoftext|>"
    assert report.warnings == [] or all("AutoTokenizer" not in sentence for sentence in report.warnings)
    with pytest.raises(EmbeddingError, match="not empty"):
        swap_folder(*places, "mean")


def test_a_model_type_with_a_tokenizer_of_its_own_is_told(saved, source):
    report = swap_folder(*saved(llama(source, kind="qwen2")), "mean")
    assert any("PreTrainedTokenizerFast.from_pretrained" in sentence for sentence in report.warnings)


def test_a_folder_that_reads_differently_is_not_left(saved, source, monkeypatch):
    places = saved(llama(source))
    outputs = iter(range(100))
    monkeypatch.setattr(transfer_folder, "_output", lambda model, row: torch.tensor(float(next(outputs))))
    with pytest.raises(EmbeddingError, match="other outputs, by 1"):
        swap_folder(*places, "mean")
    assert not places[2].exists()
    assert sorted(path.name for path in places[2].parent.iterdir()) == ["model", "tokenizer.json"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_whose_tensors_lie_at_odd_addresses_is_the_same_when_read_again(source, tied, tmp_path):
    """Some CPUs add up in another order there, above all in double precision."""
    model = llama(source, tied).double()
    for part in [*model.parameters(), *model.buffers()]:
        part.data = torch.cat([part.data.flatten()[:1], part.data.flatten()])[1:].view(part.shape)
        assert part.data_ptr() % 16
    before = {name: part.clone() for name, part in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    source.save_pretrained(tmp_path)
    transfer_folder.compare(model, source, tmp_path)
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())


def test_what_is_no_model_or_tokenizer_is_said(saved, source, tmp_path):
    model, tokenizer, out = saved(llama(source))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmbeddingError, match="has no fast tokenizer"):
        swap_folder(model, tmp_path / "empty", out, "mean")
    (model / "model.safetensors").unlink()
    with pytest.raises(EmbeddingError, match="cannot be loaded as a model"):
        swap_folder(model, tokenizer, out, "mean")
