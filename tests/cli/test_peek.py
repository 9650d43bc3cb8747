"""``tersely peek``: what a row holds, as text."""

import json

import pytest
from click.testing import CliRunner
from small import TEXTS
from text_folders import make_folder

from tersely.cli.main import cli
from tersely.corpus import find_sources, prepare
from tersely.errors import UsageError
from tersely.shards import ShardFolder


def peek(*arguments):
    done = CliRunner().invoke(cli, ["peek", *map(str, arguments)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


def test_all_rows_together_hold_every_document_once(corpus):
    rows = ShardFolder(corpus).manifest.rows
    pieces = [
        piece for row in range(rows) for piece in json.loads(peek(corpus, "--row", row, "--json"))["pieces"]
    ]
    pieces.sort(key=lambda piece: (piece["document"], piece["start"]))
    found = {}
    for piece in pieces:
        found[piece["document"]] = found.get(piece["document"], "") + piece["text"]
    assert list(found.values()) == [text for text in TEXTS if text]


def test_a_row_is_printed_with_its_boundaries(corpus):
    out = peek(corpus, "--row", -1)
    last = ShardFolder(corpus).row(ShardFolder(corpus).manifest.rows - 1)
    assert out.count("--- document") == len(last.places)
    for place in last.places:
        assert f"document {place.document}, tokens {place.start} to {place.start + place.length}" in out
    assert "of 256 tokens" in out


def test_long_pieces_are_cut_and_control_characters_spelled_out(write_jsonl, tmp_path):
    path = write_jsonl([{"text": "start\n\x1b[31m" + "x" * 5000 + "\tend", "lang": "\x07en"}])
    prepare(find_sources([path], fields=("lang",))[0], tmp_path / "out", "bytes", capacity=8192)
    out = peek(tmp_path / "out")
    assert "start\n\\x1b[31mx" in out
    assert "\tend" in out
    assert "characters ...]" in out
    assert "lang: \\x07en" in out
    assert "\x1b" not in out
    assert "x" * 5000 in peek(tmp_path / "out", "--full")


def test_rows_that_are_not_there_are_refused(corpus):
    rows = ShardFolder(corpus).manifest.rows
    for row in (rows, -rows - 1):
        with pytest.raises(UsageError, match=f"no row {row}"):
            peek(corpus, "--row", row)


def inside(text):
    """Trained on: what stands between brackets."""
    depth, flags = 0, []
    for byte in text:
        depth -= byte == ord(")")
        flags.append(depth > 0)
        depth += byte == ord("(")
    return flags


def test_pieces_name_their_sources(tmp_path):
    folder = make_folder(
        tmp_path / "out", [[(0, b"one"), (1, b"two")], [(1, b"three")]], names=("a\x1b", "b")
    )
    found = [
        (piece["text"], piece["source"])
        for row in range(2)
        for piece in json.loads(peek(folder, "--row", row, "--json"))["pieces"]
    ]
    assert sorted(found) == [("one", "a\x1b"), ("three", "b"), ("two", "b")]
    assert "tokens 0 to 4, from a\\x1b" in peek(folder)


def test_what_is_not_trained_on_is_marked(tmp_path):
    text = "ask(\u00e9\u00e9)ask again(yes)"
    folder = make_folder(tmp_path / "out", [[(0, text.encode())]], trained=inside)
    (piece,) = json.loads(peek(folder, "--json"))["pieces"]
    assert piece["trained"] == [[4, 8], [19, 22]]
    assert [text.encode()[start:stop].decode() for start, stop in piece["trained"]] == ["\u00e9\u00e9", "yes"]
    assert piece["text"] == text
    out = peek(folder)
    assert "[[ask(]]\u00e9\u00e9[[)ask again(]]yes[[)]]" in out
    assert "from only, 7 trained on" in out


def test_long_pieces_keep_their_marks_at_both_ends(tmp_path):
    text = b"q" * 150 + b"(" + b"a" * 5000 + b")" + b"r" * 50
    folder = make_folder(tmp_path / "out", [[(0, text)]], trained=inside, capacity=8192)
    head, tail = peek(folder).split("[... 4,802 characters ...]")
    assert head.strip().endswith("[[" + "q" * 150 + "(]]" + "a" * 49)
    assert tail.strip() == "a" * 149 + "[[)" + "r" * 50 + "]]"


def test_the_words_of_a_piece_are_counted(tmp_path):
    folder = make_folder(tmp_path / "out", [[(0, b"three short words"), (0, b"one")]], words=True)
    pieces = json.loads(peek(folder, "--json"))["pieces"]
    assert sorted(sum(piece["word_lengths"]) for piece in pieces) == [4, 18]
    for piece in pieces:
        assert f"{len(piece['word_lengths'])} words" in peek(folder)
