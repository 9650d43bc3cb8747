"""Swaps from files to files: the same folder as by way of a model, which is never built."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_tokenizers import BERT_PARTS, SENTENCES, byte_fallback, byte_level, fast, wordpiece
from torch import nn

from tersely.embeddings import swap_folder
from tersely.embeddings.transfer import folder as transfer_folder
from tersely.embeddings.transfer.checkpoint import INDEX, WHOLE, Checkpoint
from tersely.errors import EmbeddingError, UsageError

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
GPT2_PARTS = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


@pytest.fixture(scope="module")
def source():
    return fast(byte_level(), **GPT2_PARTS)


@pytest.fixture(scope="module")
def piece():
    return fast(wordpiece(), **BERT_PARTS)


def of_kind(kind, tokenizer, head="AutoModelForCausalLM", spare=0, **settings):
    import transformers

    torch.manual_seed(0)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = transformers.AutoConfig.for_model(kind, **settings, **special, vocab_size=len(tokenizer) + spare)
    return getattr(transformers, head).from_config(config).eval()


@pytest.fixture
def places(tmp_path):
    """Saves a model with its tokenizer and a target, and returns their places."""

    def save(model, tokenizer, target, **settings):
        model.save_pretrained(tmp_path / "model", **settings)
        tokenizer.save_pretrained(tmp_path / "model")
        target.save(str(tmp_path / "tokenizer.json"))
        return tmp_path / "model", tmp_path / "tokenizer.json"

    return save


def tensors(folder):
    """What all files of a folder hold, read by safetensors itself."""
    return {
        name: part for file in sorted(folder.glob("*.safetensors")) for name, part in load_file(file).items()
    }


def settings_of(folder):
    return {
        file: json.loads((folder / file).read_text())
        for file in ("config.json", "generation_config.json")
        if (folder / file).exists()
    }


LLAMA = SMALL | {"num_key_value_heads": 2}
MODELS = {
    "untied": lambda source, piece: (of_kind("llama", source, **LLAMA), source),
    "tied": lambda source, piece: (of_kind("llama", source, **LLAMA, tie_word_embeddings=True), source),
    "sixteen bits": lambda source, piece: (of_kind("llama", source, **LLAMA).to(torch.bfloat16), source),
    "bias": lambda source, piece: (of_kind("bert", piece, "AutoModelForMaskedLM", **SMALL), piece),
    "bias of its own": lambda source, piece: (of_kind("phi", source, **SMALL), source),
    "no head": lambda source, piece: (of_kind("bert", piece, "AutoModel", **SMALL), piece),
    "two stacks": lambda source, piece: (
        of_kind("t5", piece, "AutoModelForSeq2SeqLM", d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2, decoder_start_token_id=0),
        piece,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["mean", "fit"])
def test_the_files_are_those_that_the_model_would_be_saved_as(source, piece, places, tmp_path, name, method):
    model, tokenizer = MODELS[name](source, piece)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    found = places(model, tokenizer, byte_fallback(), max_shard_size="6KB")
    corpus = {} if method == "mean" else {"corpus": SENTENCES[::2]}
    by_model = swap_folder(*found, tmp_path / "by_model", method, **corpus)
    by_files = swap_folder(*found, tmp_path / "by_files", method, **corpus, measure=False)
    expected, made = tensors(tmp_path / "by_model"), tensors(tmp_path / "by_files")
    assert expected.keys() == made.keys()
    for tensor, part in expected.items():
        assert part.dtype == made[tensor].dtype
        # Blocks of columns are summed up in another order.
        torch.testing.assert_close(
            made[tensor], part, atol=2e-6, rtol=1e-5 if part.dtype == torch.float32 else 1e-2
        )
    assert settings_of(tmp_path / "by_model") == settings_of(tmp_path / "by_files")
    assert (by_model.origins == by_files.origins).all()
    assert by_files.quality is None
    assert "outputs were not compared" in str(by_files)
    assert by_files.norms["inputs"].after == pytest.approx(by_model.norms["inputs"].after)
    index = json.loads((tmp_path / "by_files" / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(part.nbytes for part in made.values())
    assert index["metadata"]["total_parameters"] == sum(part.numel() for part in made.values())
    for tensor, file in index["weight_map"].items():
        with safe_open(tmp_path / "by_files" / file, framework="pt") as opened:
            assert tensor in opened.keys()  # noqa: SIM118 -- it is no dictionary
            assert opened.metadata() == {"format": "pt"}


def test_the_same_tokenizer_gives_the_same_bytes_and_keeps_what_pads_the_tables(
    source, places, tmp_path, monkeypatch
):
    monkeypatch.setattr(transfer_folder, "load_model", lambda folder: pytest.fail("the model is built"))
    model = of_kind("llama", source, spare=14, **LLAMA).to(torch.bfloat16)
    found = places(model, source, byte_level())
    report = swap_folder(*found, tmp_path / "out", "mean", measure=False)
    assert report.counts["copied"] + report.counts["special"] == len(source)
    assert (tmp_path / "out" / WHOLE).read_bytes() == (found[0] / WHOLE).read_bytes()


def test_a_donor_serves_files_too(source, places, tmp_path):
    found = places(of_kind("llama", source, **LLAMA), source, byte_level(520))
    donor = fast(byte_level(520), **GPT2_PARTS)
    of_kind("llama", donor, **LLAMA).save_pretrained(tmp_path / "donor")
    report = swap_folder(*found, tmp_path / "out", "omp", donor=tmp_path / "donor", measure=False)
    assert report.counts["donated"] > 50
    logits = transfer_folder.load_model(tmp_path / "out")(torch.tensor([[1, len(donor) - 1]])).logits
    assert torch.isfinite(logits).all()


def test_tensors_may_lack_the_prefix_of_the_body_and_be_stored_twice(source, places, tmp_path):
    """As GPT-2's are, and those of some tied models."""
    settings = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    found = places(of_kind("gpt2", source, **settings), source, byte_level(520))
    bare = {name.removeprefix("transformer."): part for name, part in load_file(found[0] / WHOLE).items()}
    save_file(bare | {"lm_head.weight": bare["wte.weight"].clone()}, found[0] / WHOLE, {"format": "pt"})
    swap_folder(*found, tmp_path / "out", "mean", measure=False)
    made = tensors(tmp_path / "out")
    assert made.keys() == bare.keys() | {"lm_head.weight"}
    assert torch.equal(made["wte.weight"], made["lm_head.weight"])
    model = transfer_folder.load_model(tmp_path / "out")
    assert torch.equal(model.get_input_embeddings().weight, made["wte.weight"])


def test_all_but_the_tables_is_copied_to_the_byte_in_small_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("tersely.embeddings.transfer.checkpoint._CHUNK", 100)
    generator = np.random.default_rng(0)
    parts = {
        "a": torch.tensor(generator.normal(size=(30, 7))).to(torch.bfloat16),
        "table": torch.arange(12.0).reshape(4, 3),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 5),
        "codes": torch.tensor(generator.integers(0, 255, size=333), dtype=torch.uint8),
    }
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    save_file(parts, tmp_path / "in" / WHOLE)
    Checkpoint.of(tmp_path / "in").rewrite(
        tmp_path / "out", 9, {"table": lambda table: torch.cat([table, torch.ones(5, 3)])}
    )
    made = tensors(tmp_path / "out")
    assert made.keys() == parts.keys()
    for name, part in parts.items():
        assert torch.equal(made[name][: len(part)] if name == "table" else made[name], part)
    assert made["table"].shape == (9, 3)


def test_what_needs_the_model_is_refused_without_it(source, piece, places, tmp_path):
    found = places(of_kind("llama", source, **LLAMA), source, byte_level(520))
    with pytest.raises(UsageError, match="need the model"):
        swap_folder(*found, tmp_path / "out", "mean", distill=2, corpus=SENTENCES, measure=False)
    settings = {
        f"{stack}_{name}": value
        for stack in ("encoder", "decoder")
        for name, value in (("layers", 1), ("ffn_dim", 16), ("attention_heads", 2))
    }
    grown = of_kind("bart", piece, "AutoModelForSeq2SeqLM", d_model=16, decoder_start_token_id=0, **settings)
    found = places(grown, piece, byte_level(520))
    with pytest.raises(EmbeddingError, match=r"final_logits_bias .* swap without --no-measure"):
        swap_folder(*found, tmp_path / "out", "mean", measure=False)
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_those_of_the_settings_are_said(source, places, tmp_path):
    found = places(of_kind("llama", source, **LLAMA), source, byte_level(520))
    parts, out = load_file(found[0] / WHOLE), tmp_path / "out"

    def refused(words, kept):
        save_file(kept, found[0] / WHOLE, {"format": "pt"})
        with pytest.raises(EmbeddingError, match=words):
            swap_folder(*found, out, "mean", measure=False)
        assert not out.exists()

    table = parts["model.embed_tokens.weight"]
    refused(
        "have no lm_head.weight", {name: part for name, part in parts.items() if name != "lm_head.weight"}
    )
    refused("where the configuration says", parts | {"model.embed_tokens.weight": table[:-1].clone()})
    refused("quantised", parts | {"model.embed_tokens.weight": table.to(torch.int8)})
    whole = (found[0] / WHOLE).read_bytes()
    (found[0] / WHOLE).write_bytes(whole[:-10])
    with pytest.raises(EmbeddingError, match="can be read"):
        swap_folder(*found, out, "mean", measure=False)
    (found[0] / WHOLE).unlink()
    with pytest.raises(EmbeddingError, match="save the model again"):
        swap_folder(*found, out, "mean", measure=False)
