"""Subword tokenizers: vocabularies that others wrote, behind the one Protocol.

tokenizer.py           SubwordTokenizer: specials, offsets, decoding, saving
offsets.py             where tokens come from
files.py               from a file or a folder to the vocabulary
model.py               what a vocabulary must offer, and the bytes its ids stand for
huggingface.py         tokenizer.json, run by tokenizers; decoders.py is which ids stand for bytes
tiktoken_ranks.py      rank files, run by tiktoken
sentencepiece_model.py SentencePiece models, run by sentencepiece
cuts.py                long documents in parts
fast.py                an engine in place of tokenizers and tiktoken, as long as it gives the same ids
gigatoken_engine.py    gigatoken
word_engine.py         ours for byte-level BPE: words looked up (known_words.py) or merged (merges.py); steady.py is for
                       which characters that is certain
"""

from tersely.tokenize.subword.tokenizer import SubwordTokenizer as SubwordTokenizer
