"""Out of padding and back: once before a model's first layer and once after its last."""

from tersely.kernels.pad.pad import Unpadded as Unpadded
from tersely.kernels.pad.pad import pad as pad
from tersely.kernels.pad.pad import unpad as unpad
