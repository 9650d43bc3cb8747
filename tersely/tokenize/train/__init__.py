"""Training vocabularies from streams, in bounded memory: counted words, then BPE, superwords, WordPiece, Unigram."""

from tersely.tokenize.train.bpe import train_bpe as train_bpe
from tersely.tokenize.train.count import WordCounter as WordCounter
from tersely.tokenize.train.count import WordCounts as WordCounts
from tersely.tokenize.train.unigram import train_unigram as train_unigram
from tersely.tokenize.train.wordpiece import bert_words as bert_words
from tersely.tokenize.train.wordpiece import train_wordpiece as train_wordpiece
from tersely.tokenize.train.words import Split as Split
