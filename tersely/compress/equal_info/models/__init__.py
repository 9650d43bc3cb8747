"""Models of the next byte, by which a code is built; once it is built, none is needed."""

from tersely.compress.equal_info.models.ngram import NgramModel as NgramModel
from tersely.compress.equal_info.models.protocol import ByteModel as ByteModel
