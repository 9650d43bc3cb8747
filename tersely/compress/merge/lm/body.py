"""MergingBody: layers over bytes, layers over groups of them, layers over bytes again; causal all the way.

    x (T, width)     encode      --> h                  each byte sees those before it
    h                policy      --> where groups begin, by what is known at each byte
    h                reduce, up  --> (K, main_width)    packed: K positions, not T
                     main        -->                    each group sees those before it
                     down, expand--> (T, width)         back to the bytes of each group
    + residual(h)    decode      --> (T, width)

Legend: ``T`` packed bytes, ``K`` groups, ``N`` documents.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tersely.compress.merge.expand import Expansion, expand
from tersely.compress.merge.groups import Groups
from tersely.compress.merge.lm.config import MergingLMConfig
from tersely.compress.merge.policies.named import make_policy
from tersely.compress.merge.policies.protocol import Choice
from tersely.compress.merge.rate import RatioLoss
from tersely.compress.merge.reduce import GroupReduce
from tersely.errors import choose
from tersely.kernels import Boundaries
from tersely.kernels.segment import positions_of_tokens
from tersely.layers import Stack, StackCache


@dataclass(frozen=True, eq=False)
class Merged:
    """What a forward through the body gives.

    Attributes:
        states: ``(T, width)``.
        choice: what the policy decided.
        groups: what was merged with what.
        encoded: ``(T, width)``: states before merging.
        given: ``(K, width)``: what the main layers gave each group, before it was expanded.
        rate_loss: what pulls a learned policy to its share, else 0.
    """

    states: Tensor
    choice: Choice
    groups: Groups
    encoded: Tensor
    given: Tensor
    rate_loss: Tensor


class MergingBody(nn.Module):
    """Reads ``(T, width)`` and gives ``(T, width)``; its policy may be exchanged for any other causal one."""

    def __init__(self, config: MergingLMConfig) -> None:
        super().__init__()
        width, main = config.width, config.main_width
        self.window, self.expansion = config.window, choose(Expansion, config.expand)
        self.encode = Stack(width, config.encode_layers, config.heads)
        self.policy = make_policy(config.policy, width=width, share=config.share, seed=config.seed)
        self.reduce = GroupReduce(config.reduce, width)
        self.up = nn.Linear(width, main, bias=False)
        self.main = Stack(main, config.main_layers, config.main_heads)
        self.down = nn.Linear(main, width, bias=False)
        self.residual = nn.Linear(width, width, bias=False)
        self.decode = Stack(width, config.decode_layers, config.heads)
        self.rate = RatioLoss(config.share, config.ratio_weight) if config.policy == "router" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The states before merging are added in whole: from 0, as in H-Net, a short training was 0.01 to 0.02 bits worse."""
        self.up.reset_parameters()
        self.down.reset_parameters()
        nn.init.eye_(self.residual.weight)

    def forward(
        self, x: Tensor, cu_seqlens: Tensor, input_ids: Tensor, caches: Caches | None = None
    ) -> Merged:
        """All bytes of packed documents at once. Waits once for the device, for the number of groups.

        Args:
            x: ``(T, width)``.
            cu_seqlens: ``(N + 1,)``, int32; rows past the last document are slack.
            input_ids: int64, ``(T,)``: what the policy may look at.
            caches: filled for generation; none in training.
        """
        positions = positions_of_tokens(cu_seqlens, len(x))
        bounds = Boundaries.from_cu_seqlens(
            cu_seqlens, len(x), causal=True, window=(self.window, self.window)
        )
        if caches is not None:
            longest = int(cu_seqlens.diff().max())
            caches.encode.begin(cu_seqlens, longest)
            caches.decode.begin(cu_seqlens, longest)
        encoded = self.encode(x, bounds, positions, caches and caches.encode)
        choice = self.policy(encoded, cu_seqlens, input_ids, positions)
        rate_loss = choice.score.new_zeros(())
        if self.rate is not None:
            choice, rate_loss = self.rate(choice, cu_seqlens)
        groups = Groups.of(choice.keep, cu_seqlens)
        if caches is not None:
            caches.main.begin(groups.cu_seqlens, int(groups.cu_seqlens.diff().max()))
        over = Boundaries.from_cu_seqlens(groups.cu_seqlens, len(groups.source), causal=True)
        merged = self.up(self.reduce.causal(encoded, groups))
        given = self.down(self.main(merged, over, groups.positions, caches and caches.main))
        back = expand(given, groups, choice, self.expansion)
        states = self.decode(back + self.residual(encoded), bounds, positions, caches and caches.decode)
        return Merged(states, choice, groups, encoded, given, rate_loss)


@dataclass(eq=False)
class Caches:
    """Keys and values of the three stacks, for the same sequences."""

    encode: StackCache
    main: StackCache
    decode: StackCache

    @staticmethod
    def of(body: MergingBody, sequences: int, capacity: int) -> Caches:
        """Empty ones, with room for sequences of ``capacity`` bytes."""
        return Caches(
            body.encode.cache(sequences, capacity),
            body.main.cache(sequences, capacity),
            body.decode.cache(sequences, capacity),
        )
