"""Models of the next byte, by which a code is built; once it is built, none is needed."""

from tersely.compress.equal_info.models.kinds import Model as Model
from tersely.compress.equal_info.models.kinds import load_model as load_model
from tersely.compress.equal_info.models.kinds import train_model as train_model
from tersely.compress.equal_info.models.mixing import MixingModel as MixingModel
from tersely.compress.equal_info.models.ngram import NgramModel as NgramModel
from tersely.compress.equal_info.models.protocol import ByteModel as ByteModel
