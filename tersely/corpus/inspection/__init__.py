"""A prepared folder looked at: how long its documents are, where its tokens come from, what another packing would cost.

file           what it holds
survey.py      one pass over the shards, in memory that does not grow with them
lengths.py     how often each length occurs; percentiles and histogram of that
sources.py     what each source gave
choices.py     what other capacities and strategies would make of the same documents
quarantine.py  the records that are no documents, by reason
inspected.py   ``inspect_folder``: all of that
page.py, packing_section.py   the result as one self-contained HTML page
code.py        an equal-info code measured on documents, and its page
"""

from tersely.corpus.inspection.choices import Choice as Choice
from tersely.corpus.inspection.code import CodeInspection as CodeInspection
from tersely.corpus.inspection.code import code_page as code_page
from tersely.corpus.inspection.code import inspect_code as inspect_code
from tersely.corpus.inspection.inspected import Inspection as Inspection
from tersely.corpus.inspection.inspected import inspect_folder as inspect_folder
from tersely.corpus.inspection.lengths import Lengths as Lengths
from tersely.corpus.inspection.page import inspection_page as inspection_page
from tersely.corpus.inspection.quarantine import Quarantine as Quarantine
from tersely.corpus.inspection.sources import SourceFigures as SourceFigures
