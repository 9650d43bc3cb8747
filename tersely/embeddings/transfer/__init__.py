"""Another tokenizer for a pretrained model.

vocabulary.py   the bytes of every token, whatever its family
pieces.py       any bytes in pieces of a tokenizer, where a word begins and where it goes on
match.py        each new token in terms of the old vocabulary
passages.py     a corpus in passages, some held out, and its words
learned.py      what is taken from a corpus
cooccurrence.py vectors of tokens from the company they keep
methods/        rows of the new vocabulary from those of the old one
hypernet/       a network that makes rows, and its training
donor.py        the rows of a model that has the new tokenizer
specials.py     special tokens, their rows, the template around a text
tables.py       the tables of a model, and what is refused
skeleton.py     a saved model without its weights
checkpoint.py   its files, read and written a tensor at a time
ids.py          bos, eos and other ids in the model's settings
digits.py       whether numbers are cut alike
distill.py      the rows trained against the original model
word_ends.py    where its states are compared
rows_adam.py    how rows move
byte_target.py  our byte tokenizer as a fast one
tokens.py       what each row was made of
quality.py      how near the swapped model is to the original
report.py       SwapReport
swap.py         swap_tokenizer: all of it, in memory
shardwise.py    from files to files, for large models
folder.py       swap_folder: from folder to folder, and read again
"""

from tersely.embeddings.transfer.folder import swap_folder as swap_folder
from tersely.embeddings.transfer.hypernet.train import train_hypernet as train_hypernet
from tersely.embeddings.transfer.report import SwapReport as SwapReport
from tersely.embeddings.transfer.swap import swap_tokenizer as swap_tokenizer
