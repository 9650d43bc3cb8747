"""The model of archives: the probability of the next bit, from all the bytes before it."""

from tersely.compress.archive.model.memory import LARGEST as LARGEST
from tersely.compress.archive.model.memory import SMALLEST as SMALLEST
from tersely.compress.archive.model.memory import Model as Model
from tersely.compress.archive.model.memory import fingerprint as fingerprint
from tersely.compress.archive.model.memory import new_model as new_model
