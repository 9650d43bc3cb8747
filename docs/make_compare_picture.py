"""Draws docs/compare.svg: bytes per token of some vocabularies in 33 languages.

The languages are those of the shared NTREX corpus, so this needs the shared data. Run it from the root of the project:
python docs/make_compare_picture.py [FOLDER OF THE SHARED DATA]
"""

import re
import sys
from html import escape
from pathlib import Path

from tersely.corpus import find_sources
from tersely.corpus.comparison import compare
from tersely.corpus.page import WIDTH, dot_chart, legend_mark, style

SPECS = ("gpt2/tokenizer.json", "phi-3-mini/tokenizer.json", "cl100k_base.tiktoken")


def main():
    """Draws the picture: the chart of the page, with a legend of its own."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    sources, _ = find_sources([data / "multilingual/ntrex.jsonl.zst"], fields=["lang"])
    found = compare(sources, ["bytes", *(str(data / "tokenizers" / spec) for spec in SPECS)], by="lang")
    names = [made.name for made in found.tokenizers]
    rows = {lang: [made.groups[lang].bytes_per_token for made in found.tokenizers] for lang in found.groups}
    order = sorted(rows, key=lambda lang: -sum(rows[lang]))
    chart = dot_chart("bytes per token by language", order, names, [rows[lang] for lang in order])
    height = int(re.search(r'viewBox="0 0 \d+ (\d+)"', chart)[1])
    legend = "".join(
        f'<svg x="{150 + 150 * i}" y="12" width="14" height="14">{legend_mark(i)}</svg>'
        f'<text x="{170 + 150 * i}" y="24">{escape(name)}</text>'
        for i, name in enumerate(names)
    )
    Path(__file__).with_name("compare.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 40}">\n<style>{style()}</style>\n'
        f'<rect style="fill: var(--page)" width="{WIDTH}" height="{height + 40}"/>\n'
        f'<text x="18" y="24">bytes per token</text>\n{legend}\n'
        f'<svg y="40" width="{WIDTH}" height="{height}">{chart}</svg>\n</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
