"""Equal-info codes: ids that each carry the same number of bits of information (README.md says how)."""

from tersely.compress.equal_info.tokenizer import EqualInfoTokenizer as EqualInfoTokenizer
