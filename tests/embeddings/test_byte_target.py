"""Our byte tokenizer as the target of a swap."""

import copy

import pytest
import torch
from small_tokenizers import BERT_PARTS, SENTENCES, byte_fallback, byte_level, fast, wordpiece

from tersely import load_tokenizer
from tersely.embeddings import swap_folder, swap_tokenizer
from tersely.embeddings.transfer.byte_target import fast_bytes
from tersely.embeddings.transfer.match import ORIGINS
from tersely.tokenize import ByteTokenizer

TEXTS = [*SENTENCES[:20], "  \n\ttabs\r\n", "\U0001f600 \u4e2d\u6587", "<pad> </s> stay text?"]


def bert(tokenizer):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertModel(BertConfig(**small, vocab_size=len(tokenizer), pad_token_id=0)).eval()


@pytest.fixture(scope="module")
def piece():
    return fast(wordpiece(), **BERT_PARTS)


@pytest.mark.parametrize("preset", ["byt5", "blt", "hnet", "evabyte"])
def test_the_fast_form_has_the_ids_of_the_byte_tokenizer(preset):
    ours = ByteTokenizer(preset)
    peer = fast_bytes(ours)
    assert len(peer) == ours.vocab_size
    assert peer(TEXTS[:-1], add_special_tokens=False)["input_ids"] == [
        row.tolist() for row in ours.encode(TEXTS[:-1])
    ]
    assert [peer.pad_token_id, peer.bos_token_id, peer.eos_token_id] == [
        ours.pad_id,
        ours.bos_id,
        ours.eos_id,
    ]
    assert [peer.decode(peer(text)["input_ids"]) for text in TEXTS[:-1]] == TEXTS[:-1]


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_vocabularies_with_bytes_give_each_byte_its_row(make):
    source = fast(make())
    model = bert(source)
    old = model.get_input_embeddings().weight.detach().clone()
    model, report = swap_tokenizer(model, source, ByteTokenizer(), "mean")
    assert report.counts["copied"] == 256
    spelling = "\u00c3" if make is byte_level else "<0xC3>"
    new = model.get_input_embeddings().weight[3 + 0xC3]
    assert (new == old[source.convert_tokens_to_ids(spelling)]).all()


def test_bytes_that_words_alone_contain_get_the_mean_of_the_shortest(piece):
    model = bert(piece)
    old = model.get_input_embeddings().weight.detach().clone()
    model, report = swap_tokenizer(model, piece, ByteTokenizer(), "mean")
    blank = 3 + ord(" ")
    assert ORIGINS[report.origins[blank]] == "contained"
    letters = [
        number
        for token, number in piece.get_vocab().items()
        if len(token.encode()) == 1 and token.isalnum() and number >= 5
    ]
    assert torch.allclose(model.get_input_embeddings().weight[blank], old[letters].mean(0), atol=1e-6)
    assert ORIGINS[report.origins[3 + ord("\n")]] == "average"


def test_a_decoder_that_does_no_better_than_guesses_is_told():
    from transformers import LlamaConfig, LlamaForCausalLM

    source = fast(byte_level(), eos_token="<eos>")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**small, vocab_size=len(source), eos_token_id=source.eos_token_id))
    for target, told in ((byte_level(), False), (ByteTokenizer(), True)):
        _, report = swap_tokenizer(copy.deepcopy(model), source, target, "mean", SENTENCES)
        assert (report.quality.bits_per_byte_after >= 8) is told
        assert any("guesses" in sentence for sentence in report.warnings) is told


def test_the_written_folder_loads_and_cuts_bytes(piece, tmp_path):
    from transformers import PreTrainedTokenizerFast

    bert(piece).save_pretrained(tmp_path / "model")
    piece.save_pretrained(tmp_path / "model")
    report = swap_folder(tmp_path / "model", "bytes", tmp_path / "out", "fit", SENTENCES)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")
    want = [row.tolist() for row in load_tokenizer("bytes").encode(SENTENCES[:5])]
    assert again(SENTENCES[:5], add_special_tokens=False)["input_ids"] == want
    ours = load_tokenizer(tmp_path / "out")
    assert [row.tolist() for row in ours.encode(SENTENCES[:5])] == want
    assert ours.decode(ours.encode(SENTENCES[:5])) == [text.encode() for text in SENTENCES[:5]]
    assert report.tokenizer("a")["input_ids"] == [
        report.tokenizer.cls_token_id,
        100,
        report.tokenizer.sep_token_id,
    ]
