"""Words: lossless segmentation of UTF-8 bytes, and a byte tokenizer that knows them.

file             what it holds
segmentation.py  ``segment``, ``segment_pieces``: documents -> words -> bytes, by one of four rules
tokenizer.py     ``WordTokenizer``: byte ids, and their words on demand
gpt2.py          a rule as vector passes
space.py         a rule on bytes alone
cl100k.py, unicode.py   rules as automata, which automaton.py builds and runs
decode.py, tables.py    UTF-8 to classes of characters; unicode.npz holds the properties
compact.py, pieces.py   flags to positions; long words cut
reference.py     slow, plain twins
"""

from tersely.tokenize.words.segmentation import Pieces as Pieces
from tersely.tokenize.words.segmentation import WordRule as WordRule
from tersely.tokenize.words.segmentation import segment as segment
from tersely.tokenize.words.segmentation import segment_pieces as segment_pieces
from tersely.tokenize.words.tokenizer import WordTokenizer as WordTokenizer
