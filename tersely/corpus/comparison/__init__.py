"""Tokenizers compared on the same documents: how short they make them, and what training then costs.

file          what it holds
documents.py  which documents are measured: a bounded, reproducible sample in which every input and group is present
encodings.py  one tokenizer over these documents
figures.py    an encoding to figures of the whole input: ratios, rows, and what a group has of both
flops.py      what a decoder spends on these tokens
compared.py   ``compare``: all of that for several tokenizers
page.py       the result as one self-contained HTML page
"""

from tersely.corpus.comparison.compared import Compared as Compared
from tersely.corpus.comparison.compared import Comparison as Comparison
from tersely.corpus.comparison.compared import compare as compare
from tersely.corpus.comparison.documents import Documents as Documents
from tersely.corpus.comparison.documents import sample_documents as sample_documents
from tersely.corpus.comparison.figures import Figures as Figures
from tersely.corpus.comparison.flops import Flops as Flops
from tersely.corpus.comparison.flops import ModelShape as ModelShape
from tersely.corpus.comparison.page import comparison_page as comparison_page
from tersely.corpus.comparison.page import measured as measured
