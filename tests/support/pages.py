"""HTML pages as tests look at them: their elements, their text, and what a browser makes of them."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, whether they close in order, and the text."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open:
            self.text.append(data)


def assert_fetches_and_runs_nothing(source):
    """No element that loads or runs, no address, no handler; figures as JSON are allowed."""
    parsed = Page(source)
    names = {name for name, _ in parsed.elements}
    assert not names & {"link", "img", "iframe", "object", "embed", "use", "image", "foreignobject", "base"}
    for name, attributes in parsed.elements:
        assert not {"src", "href", "srcset", "xlink:href", "action", "background"} & set(attributes)
        assert not any(attribute.startswith("on") for attribute in attributes)
        assert name != "script" or attributes["type"] == "application/json"
    without_data = re.sub(r"<script.*?</script>", "", source, flags=re.S)
    assert "url(" not in without_data
    assert "@import" not in without_data
    assert not [link for link in re.findall(r"\w+://\S+?[\"'\s>]", without_data) if "www.w3.org" not in link]
    assert source.startswith("<!doctype html>")


def charts(source):
    """The charts of a page, as XML."""
    return [
        ElementTree.fromstring(chart)
        for chart in re.findall(r'<svg [^>]*class="chart".*?</svg>', source, re.S)
    ]


def assert_inside_its_frame(chart):
    """Every mark of a chart lies in its view box."""
    _, _, width, height = map(float, chart.get("viewBox").split())
    for mark in chart.iter():
        x = float(mark.get("x") or mark.get("cx") or 0) + float(mark.get("width") or 0)
        y = float(mark.get("y") or mark.get("cy") or 0) + float(mark.get("height") or 0)
        assert 0 <= x <= width
        assert 0 <= y <= height


def colors_in_a_browser(source, folder, *options, size="1100,1400"):
    """The colours that Chromium shows of a page, as triples; fails if it writes anything to its console."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium or Chrome to open the page in")
    image = pytest.importorskip(
        "PIL.Image", reason="Pillow, which reads the browser's picture, is not installed"
    )
    (folder / "page.html").write_text(source, encoding="utf-8")
    shot = folder / "page.png"
    given = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *options]
    given += [f"--user-data-dir={folder / 'profile'}", f"--window-size={size}", f"--screenshot={shot}"]
    done = subprocess.run(
        [browser, *given, (folder / "page.html").as_uri()], capture_output=True, check=False, timeout=60
    )
    assert shot.exists(), done.stderr.decode()
    assert b"CONSOLE" not in done.stderr, done.stderr.decode()
    pixels = np.asarray(image.open(shot).convert("RGB")).reshape(-1, 3)
    return {tuple(color) for color in np.unique(pixels, axis=0).tolist()}
