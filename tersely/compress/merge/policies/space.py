"""SpacePolicy: the rule of SpaceByte (arXiv 2404.14408, section 2), on ids; ``tokenize.words.space`` is the same on bytes.

A byte is like space unless it is an ASCII letter, a digit or a UTF-8 continuation; one that does not follow another
begins a group, and so does the first position of a document. Ids that are no bytes are like space. So is the first byte of
each character beyond ASCII: where words are written with others, nearly every character begins a group.

    the cat, and        t h e _ c a t , _ a n d
                        1 0 0 1 0 0 0 1 0 0 0 0
"""

from __future__ import annotations

from torch import Tensor, nn

from tersely.compress.merge.policies.earlier import earlier
from tersely.compress.merge.policies.protocol import Choice
from tersely.kernels.segment import positions_of_tokens


class SpacePolicy(nn.Module):
    """Begins a group where words begin. Causal; its exact form, by scores of 1 and 0, is not.

    Args:
        first_byte: the id of byte 0.
    """

    causal, reach = True, 1

    def __init__(self, first_byte: int = 0) -> None:
        super().__init__()
        self.first_byte = first_byte

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """See ``BoundaryPolicy``."""
        at = positions_of_tokens(cu_seqlens, len(input_ids)) if position_ids is None else position_ids
        plain = _plain(input_ids - self.first_byte)
        begins = ~plain & (earlier(plain.long(), at, 1, 0) > 0)
        keep = (at == 0) | ((at > 0) & begins)
        return Choice(keep, keep.float())


def _plain(byte: Tensor) -> Tensor:
    """Whether each is a letter, a digit or a continuation, bool ``(T,)``."""
    letter = ((byte | 32) >= ord("a")) & ((byte | 32) <= ord("z"))
    digit = (byte >= ord("0")) & (byte <= ord("9"))
    continuation = (byte >= 0x80) & (byte < 0xC0)
    return letter | digit | continuation
