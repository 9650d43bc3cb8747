"""Ids to vectors: what stands between a vocabulary and the first layer of a model.

transfer/   another tokenizer for a pretrained model
words/      words pooled from their bytes, and a model that reads and spells them
"""

from tersely.embeddings.transfer import SwapReport as SwapReport
from tersely.embeddings.transfer import swap_folder as swap_folder
from tersely.embeddings.transfer import swap_tokenizer as swap_tokenizer
from tersely.embeddings.transfer import train_hypernet as train_hypernet
from tersely.embeddings.words import WordPool as WordPool
from tersely.embeddings.words import WordPooledConfig as WordPooledConfig
from tersely.embeddings.words import WordPooledLM as WordPooledLM
