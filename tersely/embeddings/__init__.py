"""Ids to vectors: what stands between a vocabulary and the first layer of a model.

transfer/   another tokenizer for a pretrained model
"""

from tersely.embeddings.transfer import SwapReport as SwapReport
from tersely.embeddings.transfer import swap_folder as swap_folder
from tersely.embeddings.transfer import swap_tokenizer as swap_tokenizer
from tersely.embeddings.transfer import train_hypernet as train_hypernet
