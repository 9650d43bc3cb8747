"""Comparing tokenizers: figures against counts by hand, rows against a prepared corpus, operations against torch's own count."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import TEXTS

from tersely.corpus import find_sources, prepare
from tersely.corpus.comparison import ModelShape, compare, sample_documents
from tersely.corpus.comparison.compared import short_names
from tersely.corpus.comparison.documents import level_of
from tersely.errors import CorpusError, TokenizeError, UsageError
from tersely.pack import plan
from tersely.ragged import Ragged
from tersely.tokenize import ByteTokenizer

THREE = [
    {"text": "one two", "lang": "en"},  # 7 bytes, 7 characters, 2 words
    {"text": "d\u00fcnn \n ist es", "lang": "de"},  # 14 bytes, 13 characters, 3 words
    {"text": "\u4e2d\u6587", "lang": "zh"},  # 6 bytes, 2 characters, 1 word
]


@pytest.fixture
def bpe(tmp_path, bpe_json):
    path = tmp_path / "tokenizer.json"
    path.write_text(bpe_json)
    return str(path)


@pytest.fixture
def wordpiece(tmp_path):
    """A tokenizer.json that knows two words; all others become one unknown token, and blanks are lost."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "wordpiece" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text(tokenizer.to_str())
    return str(path)


def sources_of(*paths, by=None):
    return find_sources(paths, fields=[by] if by else [])[0]


def test_figures_of_three_documents_are_those_counted_by_hand(write_jsonl):
    found = compare(sources_of(write_jsonl(THREE), by="lang"), ["bytes:blt"], by="lang", capacity=10)
    made = found.tokenizers[0]
    assert (found.documents, found.bytes, found.measured_documents, found.whole) == (3, 27, 3, True)
    assert made.overall.tokens == 27
    assert made.overall.bytes_per_token == 1
    assert made.overall.tokens_per_word == 27 / 6
    assert made.overall.tokens_per_character == 27 / 22
    assert made.overall.vocabulary_used == len(set("".join(r["text"] for r in THREE).encode())) / 260
    assert (made.overall.restored, made.overall.bytes_back, made.loss) == (1, 1, "")
    # with eos 8, 15 and 7 tokens: rows of 10 are [10], [8], [7], [5]
    assert (made.overall.rows, made.overall.efficiency) == (4, 30 / 40)
    assert found.groups == ["de", "en", "zh"]
    assert made.groups["zh"].tokens_per_character == 3
    assert made.groups["en"].rows == 1
    assert made.groups["de"].tokens_per_word == 14 / 3


@pytest.mark.parametrize("capacity", [64, 256])
def test_rows_are_those_that_prepare_makes(write_jsonl, tmp_path, bpe, capacity):
    path = write_jsonl([{"text": text} for text in TEXTS])
    found = compare(sources_of(path), ["bytes", bpe], capacity=capacity)
    for number, spec in enumerate(["bytes", bpe]):
        manifest = prepare(sources_of(path), tmp_path / str(number), spec, capacity=capacity)
        made = found.tokenizers[number].overall
        assert (made.rows, made.efficiency) == (manifest.rows, pytest.approx(manifest.efficiency))
        assert made.measured == manifest.documents == len(TEXTS)


def test_operations_are_those_of_the_pieces_that_are_planned(write_jsonl, bpe):
    from tokenizers import Tokenizer

    found = compare(
        sources_of(write_jsonl([{"text": text} for text in TEXTS])),
        ["bytes", bpe],
        capacity=50,
        model=ModelShape(2, 8),
    )
    peer = Tokenizer.from_file(bpe)
    lengths = [len(peer.encode(text).ids) + 1 for text in TEXTS]
    pieces = plan(lengths, 50).pieces
    squares = sum(int(length) ** 2 for length in pieces.stop - pieces.start)
    linear, attention, output = found.tokenizers[1].flops
    assert linear == 6 * (12 * 2 * 8**2) * sum(lengths)
    assert attention == 12 * 2 * 8 * squares / 2
    assert output == 6 * 8 * peer.get_vocab_size() * sum(lengths)
    first, second = (one.flops.total for one in found.tokenizers)
    assert [one.relative_flops for one in found.tokenizers] == [1, second / first]


def test_the_formula_is_what_torch_counts_in_a_gpt2():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, hidden, vocab_size, tokens = 3, 32, 100, 24
    config = GPT2Config(
        vocab_size=vocab_size,
        n_layer=layers,
        n_embd=hidden,
        n_head=4,
        n_positions=tokens,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(tokens)[None]).logits.sum().backward()
    made = ModelShape(layers, hidden).flops(tokens, tokens**2, vocab_size)
    assert (
        counter.get_total_flops() == made.linear + 2 * made.attention + made.output
    )  # torch counts masked places too


def test_the_default_model_is_the_small_gpt2():
    assert ModelShape().parameters + 768 * (50257 + 1024) == pytest.approx(124.4e6, rel=1e-3)
    with pytest.raises(UsageError, match="at least 1"):
        ModelShape(0, 768)


def test_a_tokenizer_that_loses_text_is_told(write_jsonl, wordpiece):
    path = write_jsonl([{"text": "one  two", "lang": "a"}, {"text": "onetwothree", "lang": "b"}])
    found = compare(sources_of(path, by="lang"), [wordpiece, "bytes"], by="lang")
    made = found.tokenizers[0]
    assert made.name == "wordpiece"
    assert made.overall.restored == 0
    assert made.groups["a"].bytes_back == 7 / 8  # one of two blanks is gone
    assert made.groups["b"].bytes_back == 0
    assert made.groups["b"].lossy
    assert made.loss == "'one  two' came back as 'one two'"
    assert any("wordpiece gives back none of the documents" in note for note in found.notes)
    assert not found.tokenizers[1].overall.lossy


class Picky(ByteTokenizer):
    """Refuses documents with an x, as some vocabularies refuse spellings."""

    def encode(self, texts, *, bos=False, eos=False):
        for number, text in enumerate(texts):
            if "x" in text:
                raise TokenizeError(f"document {number} has an x", number)
        return super().encode(texts, bos=bos, eos=eos)


def test_refused_documents_count_as_the_others_of_their_stratum(write_jsonl, monkeypatch):
    texts = {"a": ["xxxx", "abcd", "abcdefgh"], "b": ["xy"], "c": ["ab cd"]}
    records = [{"text": text, "lang": lang} for lang, those in texts.items() for text in those]
    monkeypatch.setattr("tersely.corpus.comparison.compared.load_tokenizer", lambda spec: Picky("hnet"))
    found = compare(sources_of(write_jsonl(records), by="lang"), ["picky"], by="lang", capacity=5)
    made = found.tokenizers[0]
    assert (made.overall.measured, made.overall.left_out) == (3, 2)
    assert made.overall.tokens == pytest.approx(made.overall.bytes) == found.bytes == 4 + 4 + 8 + 2 + 5
    assert list(made.groups) == ["a", "c"]
    assert found.groups == ["a", "b", "c"]
    assert made.groups["a"].bytes == 16
    assert "picky leaves out 2 documents (the first: not encoded: has an x)" in found.notes[0]
    assert made.megabytes_per_second is None
    with pytest.raises(TokenizeError, match="none of the documents into tokens: not encoded: has an x"):
        compare(sources_of(write_jsonl([{"text": "x"}], "x.jsonl")), ["picky"])


def test_what_gives_no_tokens_is_left_out(write_jsonl, wordpiece):
    found = compare(sources_of(write_jsonl([{"text": " \n"}, {"text": "one"}, {"text": ""}])), [wordpiece])
    assert found.tokenizers[0].overall.left_out == 1
    assert "it turns them into no tokens" in found.notes[1]
    assert found.notes[0] == "1 documents without text were passed over."


class Halves(ByteTokenizer):
    """Takes every two bytes for a word."""

    def words(self, ids):
        words = [[row[i : i + 2].tolist() for i in range(0, len(row), 2)] for row in ids]
        offsets = np.cumsum([0, *map(len, words)])
        return Ragged(Ragged.from_rows([word for row in words for word in row]), offsets)


def test_words_of_a_word_tokenizer_are_counted(write_jsonl, monkeypatch):
    monkeypatch.setattr("tersely.corpus.comparison.compared.load_tokenizer", lambda spec: Halves())
    found = compare(sources_of(write_jsonl([{"text": "abcde"}, {"text": "f"}, {"text": "gh"}])), ["halves"])
    assert found.tokenizers[0].pooled_words == 3 + 1 + 1
    assert found.notes[0].startswith("halves finds 5 words")
    monkeypatch.undo()
    assert compare(sources_of(write_jsonl([{"text": "a"}])), ["bytes"]).tokenizers[0].pooled_words is None


def corpus_in_strata(write_jsonl, sizes):
    """Files whose documents of 100 bytes are in languages of these sizes."""
    return [
        write_jsonl(
            [
                {"text": f"{lang}{i:098d} ", "lang": lang}
                for lang, count in langs.items()
                for i in range(count)
            ],
            f"{name}.jsonl",
        )
        for name, langs in sizes.items()
    ]


def test_a_sample_holds_every_input_and_group_and_small_ones_whole(write_jsonl):
    paths = corpus_in_strata(write_jsonl, {"big": {"a": 900, "b": 50}, "small": {"a": 200, "c": 50}})
    drawn = sample_documents(sources_of(*paths, by="lang"), 40_000, "lang")
    counts = np.bincount(drawn.stratum)
    assert counts.tolist() == [150, 50, 150, 50]
    assert [stratum.documents for stratum in drawn.strata] == [900, 50, 200, 50]
    assert drawn.total_bytes == 120_000
    assert not drawn.whole
    again = sample_documents(sources_of(*paths, by="lang"), 40_000, "lang")
    assert again.texts == drawn.texts
    numbers = [
        int(text[1:]) for text, stratum in zip(drawn.texts, drawn.stratum, strict=True) if stratum == 0
    ]
    assert numbers == sorted(numbers)
    assert 300 < np.mean(numbers) < 600  # from everywhere, not the first ones


def test_a_small_sample_gives_the_figures_of_the_whole(write_jsonl, bpe):
    """Strata drawn at very different rates, put together with their true sizes."""
    rng = np.random.default_rng(5)
    records = [
        {
            "text": " ".join(rng.choice(TEXTS[i % 120].split(), rng.integers(3, 60))),
            "lang": str(int(i % 50 == 0)),
        }
        for i in range(4000)
    ]
    sources = sources_of(write_jsonl(records), by="lang")
    whole = compare(sources, [bpe], by="lang", capacity=512)
    part = compare(sources, [bpe], by="lang", capacity=512, sample_bytes=60_000)
    assert part.measured_bytes < 61_000 < whole.measured_bytes / 8
    for get in (
        lambda made: made.overall.tokens,
        lambda made: made.overall.tokens_per_word,
        lambda made: made.overall.rows,
        lambda made: made.flops.attention,
        lambda made: made.groups["0"].rows,
    ):
        assert get(part.tokenizers[0]) == pytest.approx(get(whole.tokenizers[0]), rel=0.1)
    assert part.bytes == whole.bytes


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 200))
def test_the_level_fills_the_total_and_no_more(sizes, total):
    level = level_of(sizes, total)
    filled = sum(min(size, level) for size in sizes)
    assert filled == pytest.approx(min(sum(sizes), total))


def test_inputs_are_read_in_part_where_they_are_very_large(write_jsonl, monkeypatch):
    monkeypatch.setattr("tersely.corpus.jsonl.BATCH_BYTES", 5_000)
    monkeypatch.setattr("tersely.corpus.comparison.documents.READ_FACTOR", 2)
    paths = corpus_in_strata(write_jsonl, {"big": {"a": 2000}, "small": {"b": 3}})
    reads = []
    drawn = sample_documents(sources_of(*paths), 10_000, on_read=lambda done, of: reads.append((done, of)))
    assert 0 < drawn.partly_read[str(paths[0])] < 0.2
    assert drawn.total_bytes == pytest.approx(200_300, rel=0.02)
    assert reads[-1][0] < reads[-1][1] / 4
    found = compare(sources_of(*paths), ["bytes"], sample_bytes=10_000)
    assert "1 inputs were read in part" in found.notes[0]
    assert found.tokenizers[0].overall.tokens == pytest.approx(found.bytes)


def test_a_document_longer_than_the_sample_is_cut_between_characters(write_jsonl):
    drawn = sample_documents(sources_of(write_jsonl([{"text": "\u4e2d" * 1000}])), 100)
    assert drawn.texts == ["\u4e2d" * 33]
    assert (drawn.cut, drawn.whole, drawn.total_bytes) == (1, False, 3000)


def test_names_are_short_and_stay_apart():
    names = [
        "bytes",
        "a/gpt2/tokenizer.json",
        "b/gpt2/tokenizer.json",
        "x/t5/tokenizer.json",
        "c/cl100k.tiktoken",
    ]
    assert list(short_names(names).values()) == ["bytes", names[1], names[2], "t5", "cl100k"]


def test_very_many_groups_are_told_together(write_jsonl, monkeypatch):
    monkeypatch.setattr("tersely.corpus.comparison.compared._LISTED", 2)
    records = [{"text": "a" * size, "lang": str(size)} for size in (1, 5, 2, 9)]
    found = compare(sources_of(write_jsonl(records), by="lang"), ["bytes"], by="lang")
    groups = found.tokenizers[0].groups
    assert {name: made.bytes for name, made in groups.items()} == {"9": 9, "5": 5, "(2 others)": 3}


def test_wrong_arguments_are_refused(write_jsonl):
    sources = sources_of(write_jsonl(THREE))
    with pytest.raises(UsageError, match="each tokenizer once"):
        compare(sources, ["bytes", "bytes"])
    with pytest.raises(UsageError, match="at least one"):
        compare(sources, [])
    with pytest.raises(UsageError, match="capacity"):
        compare(sources, ["bytes"], capacity=0)
    with pytest.raises(UsageError, match="no document has the field 'language'"):
        compare(sources_of(write_jsonl(THREE), by="language"), ["bytes"], by="language")
    with pytest.raises(UsageError, match="sample_bytes"):
        sample_documents(sources, 0)
    with pytest.raises(CorpusError, match="no documents with text"):
        compare(sources_of(write_jsonl([{"text": ""}], "empty.jsonl")), ["bytes"])
    with pytest.raises(TokenizeError, match="gpt9"):
        compare(sources, ["gpt9"])


def test_progress_ends_at_the_whole(write_jsonl):
    path, told = write_jsonl(THREE), []
    compare(sources_of(path), ["bytes", "bytes:blt"], on_progress=lambda *now: told.append(now))
    size = path.stat().st_size
    assert told == [("reading", size, size), ("bytes", 27, 27), ("bytes:blt", 27, 27)]


def test_the_result_is_plain_json(write_jsonl, bpe):
    found = compare(sources_of(write_jsonl(THREE), by="lang"), ["bytes", bpe], by="lang")
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["tokenizers"][1]["flops"]["total"] == found.tokenizers[1].flops.total
    assert plain["model"] == {"layers": 12, "hidden": 768, "parameters": 84_934_656}
    assert plain["tokenizers"][0]["groups"]["zh"]["tokens"] == 6


@pytest.mark.shared_data
def test_languages_of_a_real_corpus_against_a_peer(shared):
    from tokenizers import Tokenizer

    spec = shared / "tokenizers/gpt2/tokenizer.json"
    sources = sources_of(shared / "multilingual/ntrex.jsonl.zst", by="lang")
    found = compare(sources, [str(spec)], by="lang", sample_bytes=600_000)
    assert len(found.groups) == 33
    drawn = sample_documents(sources, 600_000, "lang")
    peer = Tokenizer.from_file(str(spec))
    for lang in ("eng", "tam"):
        texts = [
            text
            for text, stratum in zip(drawn.texts, drawn.stratum, strict=True)
            if drawn.strata[stratum].group == lang
        ]
        ids = [one.ids for one in peer.encode_batch(texts)]
        made = found.tokenizers[0].groups[lang]
        assert made.measured == len(texts) > 0
        assert made.bytes_per_token == pytest.approx(
            sum(len(text.encode()) for text in texts) / sum(map(len, ids))
        )
        assert made.tokens_per_word == pytest.approx(
            sum(map(len, ids)) / sum(len(text.split()) for text in texts)
        )
        assert made.vocabulary_used == len({number for row in ids for number in row}) / 50257
