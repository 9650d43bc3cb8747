"""The page of a prepared folder: one file, nothing fetched, all names escaped, the figures in it; and a browser shows it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Page, assert_fetches_and_runs_nothing, assert_inside_its_frame, charts, colors_in_a_browser
from small import TEXTS
from text_folders import make_folder

from tersely.corpus.inspection import inspect_folder, inspection_page
from tersely.corpus.page import Line, column_chart, html_page, line_chart

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "</script><img src=x onerror=alert(1)>&\"'\u202e.jsonl"
SHOWN = NASTY.replace("\u202e", "\\u202e")
LIGHT = {(0x25, 0x63, 0xA8), (0x2B, 0x85, 0x56), (0xDB, 0xE7, 0xF5)}
DARK = {(0x6E, 0xA8, 0xE8), (0x63, 0xC5, 0x8D), (0x24, 0x40, 0x5F)}


def rejects(source):
    reasons = [("not JSON: at byte 7", NASTY, 3, 70), ("no field 'text'", "", 0, -1)]
    return [
        {"source": source, "line": line, "byte": byte, "reason": reason, "sha256": "", "excerpt": excerpt}
        for reason, excerpt, line, byte in reasons * 2
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    documents = [[(i % 3, text.encode()) for i, text in enumerate(TEXTS[n::2])] for n in range(2)]
    folder = tmp_path_factory.mktemp("page") / "a & b <prepared>"
    make_folder(
        folder,
        documents,
        names=(NASTY, "plain.jsonl", "third"),
        capacity=256,
        trained=lambda text: [byte == 32 for byte in text],
        rejects=rejects(NASTY),
        command="tersely prepare 'a & b'",
    )
    return inspect_folder(folder)


@pytest.fixture(scope="module")
def page(found):
    return inspection_page(found)


def data_of(page):
    return json.loads(
        re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)[1]
    )


def test_it_fetches_and_runs_nothing(page):
    assert_fetches_and_runs_nothing(page)
    assert page.count("<script") == page.count("</script") == 1


def test_names_are_shown_as_they_are(page):
    text = "".join(Page(page).text)
    for name in (SHOWN, "a & b <prepared>", f"{SHOWN}, line 3, byte 70", "tersely prepare 'a & b' --out '"):
        assert name in text


def test_it_carries_the_figures_for_people_and_for_programs(page, found):
    text = "\n".join(Page(page).text)
    shown = [
        f"{found.manifest.rows:,}",
        f"{found.manifest.efficiency:.3%}",
        f"{found.all_sources.trained:.2%}",
    ]
    shown += [f"{source.tokens:,}" for source in found.sources]
    shown += [f"{source.padding:.3%}" for source in found.sources]
    shown += [f"{source.trained:.1%}" for source in found.sources]
    shown += [f"{choice.padding:.3%}" for choice in found.choices]
    shown += [f"{choice.context:,.0f}" for choice in found.choices]
    shown += ["not JSON: at byte #", "no field 'text'", found.manifest.tokenizer.fingerprint, "256"]
    shown.append("124 = 120 documents + 0 empty + 4 quarantined")
    for value in shown:
        assert value in text
    data = data_of(page)
    assert data == json.loads(json.dumps(found.to_page_dict()))
    assert data["totals"]["documents"] == 120
    assert [source["name"] for source in data["by_source"]] == [source.name for source in found.largest]


def test_charts_are_sound_and_stay_inside_their_frame(page):
    drawn = charts(page)
    assert [chart.get("aria-label") for chart in drawn] == [
        "documents by length",
        "tokens by length of their document",
        "empty places",
        "documents not whole in one row",
    ]
    for chart in drawn:
        assert_inside_its_frame(chart)


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=70, unique=True), st.data())
def test_columns_are_as_high_as_their_values_and_marks_stand_between_their_edges(edges, data):
    edges.sort()
    values = data.draw(st.lists(st.floats(0, 1), min_size=len(edges) - 1, max_size=len(edges) - 1))
    mark = data.draw(st.integers(edges[0], edges[-1]))
    drawn = column_chart("t", edges, values, [(mark, "here")], unit="u")
    (chart,) = charts(drawn)
    assert_inside_its_frame(chart)
    bars = list(chart.iter(f"{SVG}rect"))
    heights = [float(bar.get("height")) for bar in bars]
    highest = max(range(len(values)), key=values.__getitem__)
    for value, height in zip(values, heights, strict=True):
        if values[highest] > 0.01:
            assert height == pytest.approx(heights[highest] * value / values[highest], abs=0.11)
    (line,) = (line for line in chart.iter(f"{SVG}line") if line.get("class") == "mark")
    column = next(i for i in range(len(values)) if mark <= edges[i + 1])
    left = float(bars[column].get("x"))
    assert left - 1.2 <= float(line.get("x1")) <= left + float(bars[column].get("width")) + 2.2


@given(st.lists(st.lists(st.floats(0, 1) | st.none(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_lines_go_through_their_values(rows):
    lines = [Line(f"line {i}", row, i) for i, row in enumerate(rows)]
    (chart,) = charts(line_chart("t", ["1", "2", "3", "4"], lines, 2, "u"))
    assert_inside_its_frame(chart)
    dots = [
        (float(dot.get("cy")), float(dot.find(f"{SVG}title").text.split()[-1][:-1]))
        for dot in chart.iter(f"{SVG}circle")
    ]
    assert len(dots) == sum(value is not None for row in rows for value in row)
    assert [value for _, value in sorted(dots, key=lambda dot: (-dot[0], dot[1]))] == pytest.approx(
        sorted(value for _, value in dots), abs=0.7
    )


def test_figures_cannot_end_the_element_that_holds_them():
    text = "</script><!--<script>\u2028\ud800&"
    page = html_page("t", [], {"text": text})
    assert data_of(page) == {"text": text}
    assert page.count("</script") == 1
    assert "<!--" not in page


@pytest.mark.parametrize("documents", [[[]], [[(0, b"x")]], [[(0, b"x" * 99)]], [[(0, b"x" * 99)] * 9]])
@pytest.mark.parametrize(("capacity", "overflow"), [(0, "split"), (8, "split"), (8, "truncate"), (8, "drop")])
def test_odd_folders_have_pages(tmp_path, documents, capacity, overflow):
    folder = make_folder(tmp_path / "odd", documents, capacity=capacity, overflow=overflow)
    page = inspection_page(inspect_folder(folder))
    assert_fetches_and_runs_nothing(page)
    assert data_of(page)["all_sources"]["documents"] == len(documents[0])
    for chart in charts(page):
        assert_inside_its_frame(chart)


def test_of_many_sources_the_largest_are_lines_of_their_own(tmp_path):
    names = [f"source-{i}.jsonl" for i in range(60)]
    documents = [[(i, b"x" * (i + 1)) for i in range(60)]]
    page = inspection_page(inspect_folder(make_folder(tmp_path / "many", documents, names=names)))
    text = "\n".join(Page(page).text)
    assert "source-59.jsonl" in text
    assert "source-9.jsonl" not in text
    assert "10 others together" in text
    assert len(data_of(page)["by_source"]) == 51


@pytest.mark.parametrize(("options", "colors"), [((), LIGHT), (("--force-dark-mode",), DARK)])
def test_a_browser_shows_it_light_and_dark(page, tmp_path, options, colors):
    shown = colors_in_a_browser(page, tmp_path, *options, size="1000,3200")
    assert colors <= shown
