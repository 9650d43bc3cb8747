"""A network that makes the rows of any new vocabulary from the rows of a model (arXiv 2405.07883, 2503.20083).

surface.py        what it sees of a token
network.py        the network
substrings.py     parts of words
vocabularies.py   tokenizers drawn at random
batches.py        texts in the ids of the model and of such a tokenizer
frozen.py         the model that it is trained against
checkpoint.py     a run that was broken off
plot.py           the loss over the steps
load.py           a trained network, and whether it fits a model
run.py            the steps of a run
train.py          train_hypernet: all of it
"""

from tersely.embeddings.transfer.hypernet.network import Hypernet as Hypernet
from tersely.embeddings.transfer.hypernet.network import HypernetConfig as HypernetConfig
