"""Fewer ids for the same bytes: codes in which every id carries about the same information."""

from tersely.compress.equal_info import EqualInfoTokenizer as EqualInfoTokenizer
