"""The page of a comparison: one file, nothing fetched, all names escaped, the figures in it; and whether a browser shows it."""

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Page, assert_fetches_and_runs_nothing, assert_inside_its_frame, charts, colors_in_a_browser
from small import TEXTS

from tersely.corpus import find_sources
from tersely.corpus.comparison import ModelShape, compare, comparison_page
from tersely.corpus.page import bar_chart, dot_chart, stacked_chart

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('x')</script>&\""


@pytest.fixture(scope="module")
def found(tmp_path_factory, bpe_json):
    folder = tmp_path_factory.mktemp("page")
    (folder / "tokenizer.json").write_text(bpe_json)
    langs = ["plain", NASTY, "unbroken"]
    for name in ("a.jsonl", "b & c.jsonl"):
        records = [{"text": text, "lang": langs[i % 2]} for i, text in enumerate(TEXTS)]
        records.append({"text": "\u4e2d" * 100, "lang": "unbroken"})
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    sources, _ = find_sources([folder], fields=["lang"], input_format="jsonl")
    sources = [source for source in sources if source.name.endswith(".jsonl")]
    specs = ["bytes", str(folder / "tokenizer.json")]
    return compare(sources, specs, by="lang", capacity=256, model=ModelShape(2, 64))


@pytest.fixture(scope="module")
def page(found):
    return comparison_page(found, f"tersely inspect {NASTY}")


def test_it_is_whole_and_fetches_and_runs_nothing(page):
    assert_fetches_and_runs_nothing(page)
    assert "<script" not in page


def test_names_are_shown_as_they_are(page):
    text = "".join(Page(page).text)
    assert NASTY in text
    assert "b & c.jsonl" in text


def test_it_carries_the_figures(page, found):
    text = "\n".join(Page(page).text)
    for made in found.tokenizers:
        for value in (
            f"{made.overall.bytes_per_token:.3f}",
            f"{made.overall.tokens_per_word:.3f}",
            f"{made.overall.tokens_per_character:.3f}",
            f"{made.overall.rows:,}",
            f"{made.overall.efficiency:.2%}",
            f"{made.flops.total:.2e}",
            f"{made.relative_flops:.3f}",
            f"{made.vocab_size:,}",
        ):
            assert value in text
        for part in (*made.groups.values(), *made.files.values()):
            assert f"{part.bytes_per_token:.3f}" in text
            assert f"{part.tokens_per_word:.3f}" in text
    assert "Measured on all 242 documents of 2 inputs" in text
    assert "12 n d\u00b2 = 98,304" in text
    assert "Left out, with more than 13 characters between blanks: unbroken." in text


def test_charts_are_sound_xml_and_stay_inside_their_frame(page):
    drawn = charts(page)
    assert [chart.get("aria-label") for chart in drawn] == [
        "bytes per token",
        "tokens per word",
        "training FLOPs",
        "bytes per token",
        "tokens per word",
        "bytes per token",
        "tokens per word",
    ]
    for chart in drawn:
        assert_inside_its_frame(chart)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=5), st.booleans())
def test_dots_stand_where_their_values_are(values, logarithmic):
    chart = ElementTree.fromstring(
        dot_chart("t", ["g"], "abcde"[: len(values)], [values], logarithmic=logarithmic)
    )
    places = [float(dot.get("cx")) for dot in chart.iter(f"{SVG}circle")]
    ordered = [place for _, place in sorted(zip(values, places, strict=True))]
    assert ordered == sorted(places)
    lines = [float(line.get("x1")) for line in chart.iter(f"{SVG}line") if line.get("class") == "grid"]
    assert lines[0] - 0.1 <= min(places)
    assert max(places) <= lines[-1] + 0.1


def test_bars_are_as_long_as_their_values():
    chart = ElementTree.fromstring(bar_chart("t", ["a", "b"], [1, 4], ["1", "4"], [False, True]))
    short, long = (float(bar.get("width")) for bar in chart.iter(f"{SVG}rect"))
    assert long == pytest.approx(4 * short, rel=1e-3)
    chart = ElementTree.fromstring(stacked_chart("t", ["a"], [[1, 2, 1]], ["p", "q", "r"], ["4"], [False]))
    first, second, third = (
        (float(bar.get("x")), float(bar.get("width"))) for bar in chart.iter(f"{SVG}rect")
    )
    assert first[0] + first[1] == pytest.approx(second[0], abs=0.2)
    assert second[1] == pytest.approx(2 * third[1], abs=0.2)


def test_more_than_eight_tokenizers_get_other_shapes():
    names = [str(i) for i in range(17)]
    chart = ElementTree.fromstring(dot_chart("t", ["g"], names, [[i + 1.0 for i in range(17)]]))
    assert len(list(chart.iter(f"{SVG}circle"))) == 8
    assert len(list(chart.iter(f"{SVG}rect"))) == 9
    assert len([mark for mark in chart.iter(f"{SVG}rect") if mark.get("transform")]) == 1


def test_a_browser_shows_it(page, tmp_path):
    colors = colors_in_a_browser(page, tmp_path)
    assert {(0x25, 0x63, 0xA8), (0xD1, 0x62, 0x2B)} <= colors or {
        (0x6E, 0xA8, 0xE8),
        (0xF0, 0x95, 0x5F),
    } <= colors
