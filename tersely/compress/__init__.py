"""Less for the same bytes: codes in which every id carries about the same information, and archives."""

from tersely.compress.equal_info import EqualInfoTokenizer as EqualInfoTokenizer
