"""The tokens of highest entropy: the forks of 2506.01939 (Eq. 4 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb.selection.base import EntropyOf, Share, entropy_of

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import PerToken, TokenMask, TokenRows


class Top(Share):
    """The `share` of the learning tokens at which the policy is least certain (Beyond the 80/20 Rule).

    Departures: the population is the whole optimizer step unless `population=micro` asks for the paper's code; the
    entropies are the sampler's unless `entropy.of=current` asks for the paper's.
    """

    type: Literal["top"] = "top"
    entropy: EntropyOf = EntropyOf()
    """Whose entropy."""

    @property
    def ranks_by(self) -> EntropyOf:
        return self.entropy

    def keep(self, batch: Batch, parts: TokenRows | None = None) -> TokenMask:
        return self.of_largest(batch, entropy_of(batch), parts)

    def threshold(self, entropy: PerToken, keep: TokenMask) -> float | None:
        return float(entropy[keep].min()) if bool(keep.any()) else None
