"""Training a hypernetwork for small random models, and swaps by it: what is the same, what is refused, what gets better."""

import json
import math

import pytest
import torch
from small_tokenizers import BERT_PARTS, SENTENCES, byte_level, fast, unigram, wordpiece
from tokenizers import Tokenizer

from tersely.embeddings import swap_tokenizer, train_hypernet
from tersely.embeddings.transfer.hypernet import Hypernet
from tersely.embeddings.transfer.hypernet.batches import Batches, Source
from tersely.embeddings.transfer.hypernet.frozen import Frozen
from tersely.embeddings.transfer.hypernet.surface import SurfaceReader
from tersely.embeddings.transfer.hypernet.vocabularies import Vocabulary
from tersely.embeddings.transfer.match import ORIGINS, Origin
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.quality import bits, rows_of
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import EmbeddingError, UsageError

TEXTS = SENTENCES[::2]
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
RUN = {"batch": 4, "width": 64, "bases": 1, "classes": 40, "device": "cpu"}


@pytest.fixture(scope="module")
def source():
    return fast(byte_level(), bos_token="<|endoftext|>", eos_token="<|endoftext|>")


@pytest.fixture(scope="module")
def piece():
    return fast(wordpiece(), **BERT_PARTS)


def llama(tokenizer, tied=False, hidden_size=16):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = SMALL | {"hidden_size": hidden_size}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = LlamaConfig(
        **sizes, vocab_size=len(tokenizer), tie_word_embeddings=tied, initializer_range=0.3, **ids
    )
    return LlamaForCausalLM(config).eval()


def bert(tokenizer):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(**SMALL, vocab_size=len(tokenizer), pad_token_id=0, initializer_range=0.3)
    return BertModel(config).eval()


def log_of(folder, name):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def of_bert(piece, tmp_path_factory):
    """A folder with a network that learned for some steps, and what the model was before."""
    out = tmp_path_factory.mktemp("hypernet") / "out"
    model = bert(piece)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    train_hypernet(model, piece, SENTENCES, out, steps=40, learning_rate=2e-3, every=20, **RUN)
    assert all((part == before[name]).all() for name, part in model.state_dict().items())
    assert all(part.requires_grad for part in model.parameters())
    return out


@pytest.fixture(scope="module")
def of_llama(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("hypernet") / "out"
    train_hypernet(llama(source), source, SENTENCES, out, steps=40, learning_rate=2e-3, every=20, **RUN)
    return out


@pytest.mark.parametrize("made", ["of_bert", "of_llama"])
def test_the_loss_falls_on_passages_and_tokenizers_that_were_held_out(made, request):
    folder = request.getfixturevalue(made)
    held_out = log_of(folder, "held_out")
    assert len(held_out) == 3
    assert held_out[-1] < 0.97 * held_out[0]
    assert "polyline" in (folder / "loss.svg").read_text()
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "log.jsonl",
        "loss.svg",
    }


def test_a_swap_by_it_comes_nearer_than_the_mean(piece, of_bert):
    """The target is of another family than most that were drawn, and trained apart."""
    found = {}
    for method, network in (("mean", None), ("hypernet", of_bert)):
        _, report = swap_tokenizer(bert(piece), piece, byte_level(330), method, TEXTS, hypernet=network)
        found[method] = report
    assert found["hypernet"].quality.cosine > found["mean"].quality.cosine
    assert found["hypernet"].counts["predicted"] > 200
    assert found["hypernet"].counts["composed"] == 0


def test_a_head_of_its_own_gets_rows_of_its_own(source, of_llama):
    model, other, target = llama(source), llama(source), unigram()
    swap_tokenizer(model, source, target, "hypernet", TEXTS, hypernet=of_llama)
    swap_tokenizer(other, source, target, "mean")
    changed = [
        (get(model).weight - get(other).weight).abs().max()
        for get in (lambda one: one.get_input_embeddings(), lambda one: one.get_output_embeddings())
    ]
    assert min(changed) > 1e-3
    assert set(Hypernet.from_pretrained(of_llama).config.dims) == {"inputs", "head"}


def test_a_corpus_tells_the_network_of_a_decoder_how_often_tokens_occur(source, piece, of_llama, of_bert):
    assert Hypernet.from_pretrained(of_llama).config.counted
    assert not Hypernet.from_pretrained(of_bert).config.counted
    found, target = {}, unigram()
    for name, corpus in (("empty", []), ("some", TEXTS), ("again", TEXTS), ("other", [TEXTS[0]] * 20)):
        model, _ = swap_tokenizer(llama(source), source, target, "hypernet", corpus, hypernet=of_llama)
        found[name] = model.get_output_embeddings().weight.detach()
    assert (found["some"] == found["again"]).all()
    assert not torch.allclose(found["some"], found["empty"])
    assert not torch.allclose(found["some"], found["other"])
    with pytest.raises(UsageError, match="how often"):
        swap_tokenizer(llama(source), source, target, "hypernet", hypernet=of_llama)
    rows = [
        swap_tokenizer(bert(piece), piece, target, "hypernet", corpus, hypernet=of_bert)[0]
        for corpus in (None, TEXTS)
    ]
    first, second = (model.get_input_embeddings().weight for model in rows)
    assert (first == second).all()


def test_an_untrained_network_makes_the_means(source):
    from tersely.embeddings.transfer.hypernet import HypernetConfig

    dims = {"inputs": 16, "head": 16}
    config = HypernetConfig(dims=dims, width=64, fingerprint=ByteView.of(source).fingerprint)
    model, other = llama(source), llama(source)
    swap_tokenizer(model, source, byte_level(520), "hypernet", hypernet=Hypernet(config))
    swap_tokenizer(other, source, byte_level(520), "mean")
    for name, part in model.state_dict().items():
        assert (part == other.state_dict()[name]).all(), name


def test_the_same_tokenizer_changes_nothing(source, of_llama):
    model, other = llama(source), llama(source)
    _, report = swap_tokenizer(model, source, source, "hypernet", TEXTS, hypernet=of_llama)
    assert all((part == other.state_dict()[name]).all() for name, part in model.state_dict().items())
    assert report.counts["predicted"] == 0


def test_old_tokens_get_other_rows_only_where_they_occur_more_or_less_often(source, piece, of_llama, of_bert):
    """Of a BPE cut off early, all tokens are old ones; those that were merged before come more often."""
    shorter, unused = byte_level(300), json.loads(source.backend_tokenizer.to_str())
    last = unused["model"]["merges"][-1]
    unused["model"]["merges"] = unused["model"]["merges"][:-1]
    del unused["model"]["vocab"]["".join(last)]
    without = [text for text in TEXTS if "".join(last).replace("\u0120", " ") not in text]
    assert without
    for target, corpus, predicted in (
        (shorter, TEXTS, 299),
        (Tokenizer.from_str(json.dumps(unused)), without, 0),
    ):
        _, report = swap_tokenizer(llama(source), source, target, "hypernet", corpus, hypernet=of_llama)
        assert report.counts["predicted"] == predicted
    _, report = swap_tokenizer(bert(piece), piece, piece, "hypernet", TEXTS, hypernet=of_bert)
    assert report.counts["predicted"] == 0


def test_special_tokens_keep_their_rows(piece, of_bert):
    model, old = bert(piece), bert(piece)
    model, report = swap_tokenizer(model, piece, byte_level(), "hypernet", hypernet=of_bert)
    for token in BERT_PARTS.values():
        row = model.get_input_embeddings().weight[report.tokenizer.convert_tokens_to_ids(token)]
        assert (row == old.get_input_embeddings().weight[piece.convert_tokens_to_ids(token)]).all()
    assert ORIGINS[report.origins[report.tokenizer.cls_token_id]] is Origin.SPECIAL


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_of_a_decoder_is_its_bits_per_byte(source, tied):
    """Under its own tokenizer, with all of its tokens in the softmax, the frozen model is the model."""
    model, view = llama(source, tied), ByteView.of(source)
    same = Vocabulary(source.backend_tokenizer, view.tokens, 0)
    frozen = Frozen(model, ~view.special)
    reader = SurfaceReader(view, Decomposition(source, view))
    batch = Batches(TEXTS, Source(source, True, 500), reader, [same], batch=3, classes=len(view), seed=0)[0]
    from tersely.embeddings.transfer.hypernet import HypernetConfig

    with frozen.still(), torch.no_grad():
        _, figures = frozen.loss(Hypernet(HypernetConfig(dims=frozen.dims, width=64)), batch)
    assert set(frozen.dims) == ({"inputs"} if tied else {"inputs", "head"})
    texts = [
        source.decode(row[1:length]) for row, length in zip(batch.old_ids, batch.old_lengths, strict=True)
    ]
    expected = bits(model, rows_of(source, texts, True)) / sum(len(text.encode()) for text in texts)
    assert figures["bits per byte"] == pytest.approx(expected, rel=1e-4)
    assert figures["distance at ends"] == pytest.approx(0, abs=1e-5)


class _Stopped(Exception):
    pass


def test_a_run_that_was_broken_off_goes_on_to_the_same_weights(source, tmp_path):
    def stop(now):
        if now.step == 5:
            raise _Stopped

    run = {"steps": 8, "every": 3, "seed": 4} | RUN
    whole = train_hypernet(llama(source), source, SENTENCES, tmp_path / "whole", **run)
    with pytest.raises(_Stopped):
        train_hypernet(llama(source), source, SENTENCES, tmp_path / "parts", **run, on_progress=stop)
    assert (tmp_path / "parts/checkpoint.safetensors").exists()
    steps = []
    again = train_hypernet(
        llama(source),
        source,
        SENTENCES,
        tmp_path / "parts",
        **run,
        resume=True,
        on_progress=lambda now: steps.append(now.step),
    )
    assert steps == [4, 5, 6, 7, 8]
    for name, part in whole.state_dict().items():
        assert (part == again.state_dict()[name]).all(), name
    assert log_of(tmp_path / "parts", "held_out") == log_of(tmp_path / "whole", "held_out")


def test_other_settings_do_not_go_on(source, tmp_path):
    def stop(now):
        raise _Stopped

    run = {"steps": 2, "every": 1} | RUN
    with pytest.raises(_Stopped):
        train_hypernet(llama(source), source, SENTENCES, tmp_path / "out", **run, on_progress=stop)
    with pytest.raises(EmbeddingError, match="made with batch 4, not 5"):
        train_hypernet(llama(source), source, SENTENCES, tmp_path / "out", **run | {"batch": 5}, resume=True)


def test_processes_make_the_same_batches(source, tmp_path):
    run = {"steps": 2} | RUN
    made = [
        train_hypernet(llama(source), source, SENTENCES, tmp_path / str(workers), **run, workers=workers)
        for workers in (0, 2)
    ]
    for one, other in zip(*(network.state_dict().values() for network in made), strict=True):
        assert (one == other).all()


def test_minutes_end_a_run(source, tmp_path):
    seen = []
    train_hypernet(
        llama(source),
        source,
        SENTENCES,
        tmp_path / "out",
        minutes=0.05,
        workers=1,
        **RUN,
        on_progress=seen.append,
    )
    assert seen[-1].share >= 1
    assert all(one.share < 1 for one in seen[:-1])
    assert math.isfinite(seen[-1].held_out)


def test_what_does_not_fit_is_refused(source, piece, of_llama, of_bert, tmp_path):
    target = byte_level(520)
    for model, tokenizer, network, words in [
        (llama(source, hidden_size=32), source, of_llama, "makes rows of"),
        (llama(source, tied=True), source, of_llama, "a head of its own and LlamaForCausalLM has none"),
        (llama(piece), piece, of_bert, "trained for inputs alone"),
        (bert(source), source, of_bert, "another vocabulary"),
        (llama(source), source, tmp_path, "holds no hypernetwork"),
    ]:
        before = model.get_input_embeddings().weight.shape
        with pytest.raises(EmbeddingError, match=words):
            swap_tokenizer(model, tokenizer, target, "hypernet", hypernet=network)
        assert model.get_input_embeddings().weight.shape == before
    with pytest.raises(UsageError, match="belong together"):
        swap_tokenizer(llama(source), source, target, "hypernet")
    with pytest.raises(UsageError, match="belong together"):
        swap_tokenizer(llama(source), source, target, "mean", hypernet=of_llama)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "one of them"),
        ({"steps": 1, "minutes": 1}, "one of them"),
        ({"steps": 0}, "no length"),
        ({"steps": 1, "width": 100}, "multiple of 64"),
    ],
)
def test_a_run_without_sense_is_refused(source, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        train_hypernet(llama(source), source, SENTENCES, tmp_path / "out", **RUN | changes)


def test_a_folder_in_use_and_a_corpus_too_small_are_refused(source, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").write_text("")
    with pytest.raises(EmbeddingError, match="not empty"):
        train_hypernet(llama(source), source, SENTENCES, tmp_path / "used", steps=1, **RUN)
    with pytest.raises(EmbeddingError, match="nothing can go on"):
        train_hypernet(llama(source), source, SENTENCES, tmp_path / "used", steps=1, **RUN, resume=True)
    with pytest.raises(UsageError, match="ten passages"):
        train_hypernet(llama(source), source, SENTENCES[:5], tmp_path / "out", steps=1, **RUN)
