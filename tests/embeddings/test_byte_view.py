"""Every token of every family stands for the bytes that decoding it in the midst of a text gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import SENTENCES, byte_fallback, byte_level, unigram, wordpiece

from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView, Family, continues
from tersely.errors import TokenizeError

FAMILIES = {"byte-level": byte_level, "fallback": byte_fallback, "unigram": unigram, "wordpiece": wordpiece}


@pytest.fixture(scope="module")
def trained():
    return {name: make() for name, make in FAMILIES.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_bytes_of_an_encoded_text_are_its_bytes(trained, name):
    tokenizer = trained[name]
    view = ByteView.of(tokenizer)
    for text in SENTENCES[::17]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if view.unknown in ids:
            continue
        found = b"".join(view.tokens[number] for number in ids).decode()
        if name == "wordpiece":
            plain = tokenizer.normalizer.normalize_str(text)
            assert found.replace(" ", "") == plain.replace(" ", "")
        else:
            assert found.removeprefix(" ") == text


def test_families_spell_the_same_tokens(trained):
    views = {name: ByteView.of(tokenizer) for name, tokenizer in trained.items()}
    assert {view.family for view in views.values()} == set(Family)
    for view in views.values():
        word, inside = view.ids[b" over"][0], view.ids[b"s"][0]
        assert view.begins[word]
        assert not view.begins[inside]
    assert views["wordpiece"].spellings[views["wordpiece"].ids[b"s"][0]] == "##s"
    assert views["byte-level"].spellings[views["byte-level"].ids[b" over"][0]] == "\u0120over"


def test_a_letter_is_not_the_byte_that_is_spelled_like_it(trained):
    bytes_, letters = ByteView.of(trained["byte-level"]), ByteView.of(trained["unigram"])
    assert bytes_.spellings.index("\u00e9") != bytes_.ids.get("\u00e9".encode(), [-1])[0]
    assert bytes_.tokens[bytes_.spellings.index("\u00e9")] == b"\xe9"
    assert letters.tokens[letters.spellings.index("\u00e9")] == "\u00e9".encode()


def test_pieces_of_bytes_stand_apart_and_special_tokens_stand_for_nothing(trained):
    view = ByteView.of(trained["fallback"])
    assert view.single_byte.sum() == 256
    assert view.tokens[view.spellings.index("<0x0A>")] == b"\n"
    assert [view.spellings[number] for number in range(len(view)) if view.special[number]] == [
        "<unk>",
        "<s>",
        "</s>",
    ]
    whole, piece = view.spellings.index("a"), view.spellings.index("<0x61>")
    assert view.ids[b"a"] == [whole, piece]
    assert view.same(b"a", "a", False) == whole
    assert view.same(b"a", "<0x61>", True) == piece


def test_wordpiece_signs_and_ideographs_have_no_blank(trained):
    view = ByteView.of(trained["wordpiece"])
    assert view.tokens[view.spellings.index(",")] == b","
    assert view.tokens[view.spellings.index("\u4e2d")] == "\u4e2d".encode()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_token_is_cut_into_pieces_of_the_same_bytes(trained, name):
    view = ByteView.of(trained[name])
    pieces = Decomposition(trained[name], view)
    for token in view.tokens:
        if token:
            assert b"".join(pieces.cut(token)) == token


@given(st.binary(min_size=1, max_size=12))
def test_a_vocabulary_with_all_bytes_spells_any_bytes(token):
    for tokenizer in (_BYTES, _FALLBACK):
        view = ByteView.of(tokenizer)
        assert b"".join(Decomposition(tokenizer, view).cut(token)) == token


_BYTES, _FALLBACK = byte_level(), byte_fallback()


def test_what_continues_a_word_is_cut_into_continuing_pieces(trained):
    for name, spelling in (("wordpiece", "##"), ("fallback", "")):
        view = ByteView.of(trained[name])
        pieces = Decomposition(trained[name], view)
        for number in pieces(b"walker"):
            assert view.spellings[number].startswith(spelling)
            assert not view.tokens[number].startswith(b" ")
        assert pieces.cut(b" walker")[0].startswith(b" ")


def test_what_the_normalizer_changes_is_cut_as_changed(trained):
    view = ByteView.of(trained["wordpiece"])
    pieces = Decomposition(trained["wordpiece"], view)
    assert pieces(b" Walker") == pieces(b" walker")


def test_words_on_a_new_line_or_behind_a_sign_begin_for_wordpiece_only(trained):
    for name in FAMILIES:
        pieces = Decomposition(trained[name], ByteView.of(trained[name]))
        assert pieces.of_word(b"walker") == pieces(b" walker" if name == "wordpiece" else b"walker")
        assert pieces.of_word(b" walker") == pieces(b" walker")


def test_a_capital_begins_a_word_for_wordpiece_only(trained):
    for name in FAMILIES:
        pieces = Decomposition(trained[name], ByteView.of(trained[name]))
        assert (pieces(b"Walker") == pieces(b" Walker")) is (name == "wordpiece")


def test_wordpiece_is_told_where_a_token_stands(trained):
    for name in FAMILIES:
        pieces = Decomposition(trained[name], ByteView.of(trained[name]))
        found = {begins: (pieces(b"walker", begins), pieces(b"Walker", begins)) for begins in (False, True)}
        if name == "wordpiece":
            assert found[True] == (pieces(b" walker"), pieces(b" Walker"))
            assert found[False] == (pieces(b"walker"), pieces(b"walker"))
        else:
            assert found[True] == found[False] == (pieces(b"walker"), pieces(b"Walker"))


def test_the_share_of_beginnings_is_that_of_what_stands_before(trained):
    words = {b" walker": 5, b"walker": 3, b"in_walker": 4, b" walkers": 2, b"\xc3\xa9walker": 7, b"(x": 1}
    for name in ("byte-level", "fallback"):
        view = ByteView.of(trained[name])
        pieces = Decomposition(trained[name], view)
        begun, every = np.zeros(len(view)), np.zeros(len(view))
        for word, count in words.items():
            text = b""
            for number in pieces.of_word(word):
                last = text.decode("utf-8", "replace")[-1:]
                begun[number] += count * (last in ("", " ", "_", "("))
                every[number] += count
                text += view.tokens[number]
            assert text == word
        found = pieces.beginnings(words)
        np.testing.assert_array_equal(np.isnan(found), every == 0)
        np.testing.assert_allclose(found[every > 0], (begun / np.maximum(every, 1))[every > 0])
        assert set(found[every > 0]) & {0.0, 1.0} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (b"ing", True),
        (b" the", False),
        (b",", False),
        (b"\n", False),
        (b"7", True),
        (b"\xa9x", True),
        (b"\xcc\x81", True),
    ],
)
def test_letters_digits_marks_and_broken_characters_continue(token, expected):
    assert continues(token) is expected


def test_other_kinds_are_refused_with_a_way_out():
    from tokenizers import Tokenizer, models

    with pytest.raises(TokenizeError, match="WordLevel are no pieces"):
        ByteView.of(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(TokenizeError, match="marks the ends"):
        ByteView.of(Tokenizer(models.BPE({"a</w>": 0}, [], end_of_word_suffix="</w>")))
    with pytest.raises(TokenizeError, match="object is no fast tokenizer"):
        ByteView.of(object())


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["gpt2", "phi-3-mini", "t5-small"])
def test_real_vocabularies_cut_each_of_their_tokens_into_its_bytes(shared, name):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(shared / "tokenizers" / name / "tokenizer.json"))
    view = ByteView.of(tokenizer)
    pieces = Decomposition(tokenizer, view)
    for token in view.tokens[::3]:
        assert not token or b"".join(pieces.cut(token)) == token


@pytest.mark.shared_data
def test_the_real_vocabulary_of_bert_has_its_words_and_its_continuations(shared):
    from tokenizers.implementations import BertWordPieceTokenizer

    place = shared / "tokenizers/bert-base-cased/vocab.txt"
    view = ByteView.of(BertWordPieceTokenizer(str(place), lowercase=False)._tokenizer)
    lines = place.read_text().split("\n")
    for word in ("the", "London", "walking"):
        assert view.ids[b" " + word.encode()] == [lines.index(word)]
    for inside in ("ing", "s", "ton"):
        assert view.ids[inside.encode()] == [lines.index("##" + inside)]
    # Some lines of the file have an apostrophe of their own; a sign is the same token with and without the prefix.
    assert lines.index(",") in view.ids[b","]


@pytest.mark.shared_data
def test_the_real_ranks_of_cl100k_are_the_bytes(shared):
    import base64

    from tokenizers import Tokenizer, decoders, models

    from tersely.tokenize.bytelevel import byte_characters

    letters = byte_characters()
    lines = (shared / "tokenizers/cl100k_base.tiktoken").read_bytes().split(b"\n")
    tokens = [base64.b64decode(line.split()[0]) for line in lines if line]
    vocabulary = {"".join(letters[byte] for byte in token): number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    assert ByteView.of(tokenizer).tokens == tokens


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["", "_bpe", "_bpe_char", "_with_bytefallback"])
def test_real_sentencepiece_models_stand_for_what_sentencepiece_decodes(shared, name):
    import sentencepiece
    from tokenizers import Tokenizer, models, pre_tokenizers

    model = sentencepiece.SentencePieceProcessor(
        model_file=str(shared / f"tokenizers/sentencepiece/test_sentencepiece{name}.model")
    )
    scored = [(model.id_to_piece(number), model.get_score(number)) for number in range(len(model))]
    fallback = any(model.is_byte(number) for number in range(len(model)))
    tokenizer = Tokenizer(models.Unigram(scored, model.unk_id(), fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(
        [piece for number, (piece, _) in enumerate(scored) if model.is_control(number)]
    )
    view = ByteView.of(tokenizer)
    before = next(n for n in range(len(model)) if scored[n][0] == "a")
    for number in range(len(model)):
        if view.special[number]:
            assert model.is_control(number) or model.is_unknown(number)
        elif model.is_byte(number):
            assert view.tokens[number] == bytes([int(scored[number][0][3:5], 16)])
        else:
            assert model.decode([before, number]) == "a" + view.tokens[number].decode()
