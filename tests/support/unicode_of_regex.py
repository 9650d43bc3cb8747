"""Whether the installed regex package can be the oracle of the packaged Unicode tables."""

import pytest
import regex

needs_unicode_18 = pytest.mark.skipif(
    regex.fullmatch(r"\p{L}", "\U0003d000") is None,  # a letter since Unicode 18
    reason="the installed regex knows an older Unicode than the packaged tables",
)
