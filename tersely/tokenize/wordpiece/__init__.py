"""WordPiece as BERT has it: normalised, split at blanks and punctuation, and matched in linear time.

rules.py       the vocabulary and what is done to text, from vocab.txt or tokenizer.json
table.py       what becomes of each code point, asked of the tokenizers library block by block
normal.py      text to words with it, compiled
automaton.py   the trie with failure links; reference.py is the plain search that it must equal
words.py       words to ids with it, compiled
tokenizer.py   all of it as a tokenizer of the Protocol
"""

from tersely.tokenize.wordpiece.rules import WordPieceRules as WordPieceRules
from tersely.tokenize.wordpiece.tokenizer import WordPieceTokenizer as WordPieceTokenizer
