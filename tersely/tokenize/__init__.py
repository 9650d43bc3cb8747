"""Bytes to ids and back: tokenizers that lose nothing.

protocol.py     what every tokenizer offers
bytes.py        a byte is an id
words/          byte ids, and where words start in them
kmer.py         DNA, k letters an id
subword/        vocabularies that others wrote: tokenizer.json, tiktoken, SentencePiece
wordpiece/      BERT's vocab.txt, in linear time
rwkv.py         greedy longest match
train/          new vocabularies from counted words
stream.py       text while ids still come
"""

from tersely.tokenize.bytes import ByteTokenizer as ByteTokenizer
from tersely.tokenize.bytes import Sentinels as Sentinels
from tersely.tokenize.kmer import KmerTokenizer as KmerTokenizer
from tersely.tokenize.protocol import Tokenizer as Tokenizer
from tersely.tokenize.protocol import id_dtype as id_dtype
from tersely.tokenize.rwkv import RwkvTokenizer as RwkvTokenizer
from tersely.tokenize.stream import StreamDecoder as StreamDecoder
from tersely.tokenize.subword import SubwordTokenizer as SubwordTokenizer
from tersely.tokenize.wordpiece import WordPieceRules as WordPieceRules
from tersely.tokenize.wordpiece import WordPieceTokenizer as WordPieceTokenizer
from tersely.tokenize.words import Pieces as Pieces
from tersely.tokenize.words import WordRule as WordRule
from tersely.tokenize.words import WordTokenizer as WordTokenizer
from tersely.tokenize.words import segment as segment
from tersely.tokenize.words import segment_pieces as segment_pieces
