"""What runs on packed values: attention, and what stands around it, forward and backward.

Each folder holds one operation: a plain PyTorch twin in ``reference``, Triton kernels, and the door that picks.
"""

from tersely.kernels.attention import Backend as Backend
from tersely.kernels.attention import Boundaries as Boundaries
from tersely.kernels.attention import varlen_attention as varlen_attention
from tersely.kernels.compact import compact as compact
from tersely.kernels.compact import scatter_back as scatter_back
from tersely.kernels.decode import decode_attention as decode_attention
from tersely.kernels.loss import cross_entropy as cross_entropy
from tersely.kernels.loss import packed_cross_entropy as packed_cross_entropy
from tersely.kernels.pad import pad as pad
from tersely.kernels.pad import unpad as unpad
from tersely.kernels.rotary import rotary as rotary
from tersely.kernels.segment import segment_expand as segment_expand
from tersely.kernels.segment import segment_reduce as segment_reduce
from tersely.kernels.smooth import exponential_smoothing as exponential_smoothing
from tersely.kernels.transformers import register_with_transformers as register_with_transformers
