"""Bytes to ids and back: tokenizers that lose nothing."""

from tersely.tokenize.bytes import ByteTokenizer as ByteTokenizer
from tersely.tokenize.bytes import Sentinels as Sentinels
from tersely.tokenize.protocol import Tokenizer as Tokenizer
from tersely.tokenize.protocol import id_dtype as id_dtype
from tersely.tokenize.rwkv import RwkvTokenizer as RwkvTokenizer
from tersely.tokenize.subword import SubwordTokenizer as SubwordTokenizer
from tersely.tokenize.wordpiece import WordPieceRules as WordPieceRules
from tersely.tokenize.wordpiece import WordPieceTokenizer as WordPieceTokenizer
