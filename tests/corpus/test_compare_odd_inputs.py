"""Comparing on inputs that are odd: of unknown size, of very many groups, of unseen characters, or not for a tokenizer at all."""

from dataclasses import replace

import pytest

from tersely.corpus import find_sources
from tersely.corpus.comparison import compare, comparison_page, measured, sample_documents
from tersely.corpus.comparison.documents import MOST_GROUPS
from tersely.corpus.measure import OTHERS
from tersely.corpus.read import visible
from tersely.tokenize import RwkvTokenizer


@pytest.fixture
def in_small_batches(monkeypatch):
    monkeypatch.setattr("tersely.corpus.jsonl.BATCH_BYTES", 5_000)


def of_unknown_size(path):
    """The source of a file as that of a pipe: how much it holds shows at its end."""
    return replace(find_sources([path])[0][0], size=0)


def hundreds(count):
    return [{"text": f"{i:099d} "} for i in range(count)]


@pytest.mark.parametrize("spec", ["kmer:3:rc", "rwkv"])
def test_a_tokenizer_that_cannot_encode_english_is_compared_on_what_it_can(write_jsonl, tmp_path, spec):
    if spec == "rwkv":
        RwkvTokenizer({i + 1: bytes([byte]) for i, byte in enumerate(b"ACGT")}).save(tmp_path / "rwkv")
        spec = str(tmp_path / "rwkv")
    path = write_jsonl([{"text": "not DNA"}, {"text": "ACGTAC"}])
    found = compare(find_sources([path])[0], [spec])
    made = found.tokenizers[0].overall
    assert (made.measured, made.left_out) == (1, 1)


def test_where_every_tokenizer_loses_text_there_is_a_sentence_and_no_chart(write_jsonl, tmp_path):
    (tmp_path / "vocab.txt").write_text("[UNK]\none\n")
    path = write_jsonl([{"text": "two three", "lang": lang} for lang in "ab"])
    found = compare(find_sources([path], fields=["lang"])[0], [str(tmp_path / "vocab.txt")], by="lang")
    page = comparison_page(found)
    assert page.count("Not drawn, because every tokenizer loses text in every part.") == 2
    assert page.count('class="chart"') == 3  # the bars of the whole
    assert "Table: bytes per token by lang" in page


def test_an_input_of_unknown_size_is_not_cut_to_the_size_of_another(write_jsonl, in_small_batches):
    piped, small = write_jsonl(hundreds(2000), "piped.jsonl"), write_jsonl(hundreds(3), "small.jsonl")
    sources = [of_unknown_size(piped), *find_sources([small])[0]]
    drawn = sample_documents(sources, 10_000)
    assert (drawn.total_documents, drawn.partly_read) == (2003, {})
    found = compare(sources, ["bytes"], sample_bytes=10_000)
    assert "every input and group is present. Figures are for the whole." in measured(found)


@pytest.mark.parametrize("known", [True, False])
def test_figures_of_what_was_read_in_part_are_not_said_to_be_of_the_whole(
    write_jsonl, monkeypatch, in_small_batches, known
):
    monkeypatch.setattr("tersely.corpus.comparison.documents.READ_FACTOR", 2)
    path = write_jsonl(hundreds(2000))
    source = find_sources([path])[0][0] if known else of_unknown_size(path)
    found = compare([source], ["bytes"], sample_bytes=10_000)
    assert not found.whole
    assert list(found.partly_read) == [str(path)]
    scope = "the whole, extrapolated" if known else "what was read: how much follows is not known"
    assert measured(found).endswith(f"group in what was read is present. Figures are for {scope}.")
    assert (found.bytes > 190_000) == known  # the other is the 20 kB that were read, and a batch
    assert ("extrapolated" if known else "for what was read of them") in found.notes[0]


@pytest.mark.parametrize(("count", "whole"), [(250, True), (400, False)])
def test_an_input_of_unknown_size_that_ends_where_reading_stops_is_whole(write_jsonl, count, whole):
    """In one batch, which is above the limit; the next one, if there is one, says that there is more."""
    source = of_unknown_size(write_jsonl(hundreds(count)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tersely.corpus.jsonl.BATCH_BYTES", 30_000)
        drawn = sample_documents([source], 300)
    assert (drawn.partly_read == {}) == whole


def test_very_many_groups_do_not_make_the_sample_larger(write_jsonl):
    records = [record | {"id": str(i)} for i, record in enumerate(hundreds(3000))]
    sources, _ = find_sources([write_jsonl(records)], fields=["id"])
    drawn = sample_documents(sources, 10_000, "id")
    assert int(drawn.bytes.sum()) <= 100 * (MOST_GROUPS + 1)
    assert drawn.others == 3000 - MOST_GROUPS
    assert drawn.total_documents == 3000
    found = compare(sources, ["bytes"], by="id", sample_bytes=10_000)
    assert found.groups == sorted([*map(str, range(MOST_GROUPS)), OTHERS])
    assert found.tokenizers[0].overall.tokens == pytest.approx(300_000)
    assert found.tokenizers[0].groups[OTHERS].tokens == pytest.approx(100 * drawn.others)
    assert any(f"more than {MOST_GROUPS} groups: {drawn.others} documents" in note for note in found.notes)


def test_as_many_groups_as_are_told_apart_have_no_others(write_jsonl):
    records = [record | {"id": str(i % MOST_GROUPS)} for i, record in enumerate(hundreds(3 * MOST_GROUPS))]
    sources, _ = find_sources([write_jsonl(records)], fields=["id"])
    drawn = sample_documents(sources, 10**6, "id")
    assert (drawn.others, len(drawn.strata), drawn.whole) == (0, MOST_GROUPS, True)


def test_characters_that_do_not_show_are_spelled_out(write_jsonl):
    lang = "a\x1b[31m\x9b\u202eb\n\u2066"
    path = write_jsonl([{"text": "one two", "lang": lang}])
    found = compare(find_sources([path], fields=["lang"])[0], ["bytes"], by="lang")
    page = comparison_page(found, f"tersely {lang}")
    assert not set(page) & (set(lang) - set("a[31mb\n"))
    assert page.count(r"a\x1b[31m\x9b\u202eb\n\u2066") >= 3
    assert found.groups == [lang]


@pytest.mark.parametrize("text", ["", "plain", "\u00e9 \u4e2d\U0001f600", r"C:\new", "a\u00a0b"])
def test_characters_that_show_stay_as_they_are(text):
    assert visible(text) == text
