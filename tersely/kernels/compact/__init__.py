"""Keep some rows of packed values and drop the rest, and put them back."""

from tersely.kernels.compact.compact import Compacted as Compacted
from tersely.kernels.compact.compact import compact as compact
from tersely.kernels.compact.compact import scatter_back as scatter_back
