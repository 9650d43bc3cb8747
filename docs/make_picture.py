"""Draws docs/batch.svg: what happens to a batch. Needs the extra [viz].

The documents are real: docstrings of Python's standard library, from the built-in corpus. Run it from the root of the
project: python docs/make_picture.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from tersely import load_tokenizer
from tersely.corpus import SampleSource
from tersely.pack import plan

DOCUMENTS = 24
CAPACITY = 1024
GREY = "#e4e4e4"


def documents():
    """Token counts of some documents that fit a row, drawn at random."""
    texts = [text for batch in SampleSource().batches() for text in batch.texts if len(text) < CAPACITY]
    chosen = np.random.default_rng(7).choice(len(texts), DOCUMENTS, replace=False)
    return load_tokenizer("bytes").encode([texts[i] for i in chosen], eos=True).lengths


def draw(axes, rows, width, lengths, colours, title):
    """Rows of documents as bars, grey where a row holds nothing."""
    for y, row in enumerate(rows):
        axes.barh(y, width, color=GREY, height=0.8)
        left = 0
        for document in row:
            axes.barh(y, lengths[document], left=left, color=colours[document], edgecolor="white", height=0.8)
            left += lengths[document]
    used = sum(lengths[document] for row in rows for document in row) / (len(rows) * width)
    axes.set_title(f"{title}: {len(rows)} rows of {width}, {100 * used:.0f} % used", loc="left", fontsize=10)
    axes.set_ylim(DOCUMENTS - 0.4, -0.6)
    axes.set_xlim(0, CAPACITY)
    axes.set_yticks([])
    axes.set_xlabel("tokens", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main():
    """Draws the picture."""
    lengths = documents()
    colours = mpl.colormaps["tab20"](np.arange(DOCUMENTS) % 20)
    made = plan(lengths, CAPACITY)
    figure, (before, after) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    padded = [[document] for document in range(DOCUMENTS)]
    draw(before, padded, int(lengths.max()), lengths, colours, "padded")
    draw(after, made.documents.to_list(), CAPACITY, lengths, colours, "packed by tersely")
    note = "colours are documents, grey is padding\n\nthe same documents in both;\nno document sees another:\ncu_seqlens says where each begins"
    after.text(40, 9, note, fontsize=10, va="top")
    mpl.rcParams["svg.hashsalt"] = "tersely"
    figure.savefig(Path(__file__).with_name("batch.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
