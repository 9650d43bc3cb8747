"""A prepared folder in the layouts of other loaders: Megatron, plain memory maps, MDS, LitData. README.md has the bytes."""

from tersely.corpus.formats.conversion import Conversion as Conversion
from tersely.corpus.formats.conversion import ConvertProgress as ConvertProgress
from tersely.corpus.formats.conversion import Format as Format
from tersely.corpus.formats.conversion import convert as convert
from tersely.corpus.formats.conversion import verify_conversions as verify_conversions
