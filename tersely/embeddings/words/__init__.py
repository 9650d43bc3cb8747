"""Words of bytes: models that read and spell whole words.

file          what it holds
model.py      ``WordPooledLM``: a transformer over pooled words that spells the next one
config.py     ``WordPooledConfig``
batch.py      ``WordBatch``: documents of words as tensors
layout.py     which row reads which word and spells which
pool.py       ``WordPool``: the bytes of each word to a few vectors
prefix.py     its learned prefixes and their transformer
table.py      its queries, means, maxima and first ones, over values that are looked up
speller.py    from what the model makes of a row to the symbols of the word behind it
generate.py   words spelled one after the other, over caches at both levels
mlp.py, places.py   what these share
"""

from tersely.embeddings.words.batch import WordBatch as WordBatch
from tersely.embeddings.words.config import HeadKind as HeadKind
from tersely.embeddings.words.config import WordPooledConfig as WordPooledConfig
from tersely.embeddings.words.model import WordPooledLM as WordPooledLM
from tersely.embeddings.words.model import WordPooledOutput as WordPooledOutput
from tersely.embeddings.words.pool import PoolKind as PoolKind
from tersely.embeddings.words.pool import WordPool as WordPool
