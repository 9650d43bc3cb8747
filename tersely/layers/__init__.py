"""What models on packed values are built of: transformer layers that read documents, words and groups by their boundaries.

Models of ``embeddings`` and ``compress`` differ in what a position is (a byte, a word, a group of bytes); the layers over the
positions are the same, and stand here once.
"""

from tersely.layers.cache import StackCache as StackCache
from tersely.layers.stack import Stack as Stack
from tersely.layers.stack import heads_of as heads_of
