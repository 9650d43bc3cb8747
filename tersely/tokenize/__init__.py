"""Bytes to ids and back: tokenizers that lose nothing."""

from tersely.tokenize.bytes import ByteTokenizer as ByteTokenizer
from tersely.tokenize.bytes import Sentinels as Sentinels
from tersely.tokenize.protocol import Tokenizer as Tokenizer
from tersely.tokenize.protocol import id_dtype as id_dtype
from tersely.tokenize.subword import SubwordTokenizer as SubwordTokenizer
from tersely.tokenize.words import Pieces as Pieces
from tersely.tokenize.words import WordRule as WordRule
from tersely.tokenize.words import WordTokenizer as WordTokenizer
from tersely.tokenize.words import segment as segment
from tersely.tokenize.words import segment_pieces as segment_pieces
