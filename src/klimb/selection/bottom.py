"""The tokens of lowest entropy: a control of 2506.01939."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb.selection.base import EntropyOf, Share, entropy_of

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import PerToken, TokenMask, TokenRows


class Bottom(Share):
    """The `share` of the learning tokens at which the policy is most certain (the paper's control has 0.8)."""

    type: Literal["bottom"] = "bottom"
    entropy: EntropyOf = EntropyOf()
    """Whose entropy."""

    @property
    def ranks_by(self) -> EntropyOf:
        return self.entropy

    def keep(self, batch: Batch, parts: TokenRows | None = None) -> TokenMask:
        return self.of_largest(batch, -entropy_of(batch), parts)

    def threshold(self, entropy: PerToken, keep: TokenMask) -> float | None:
        return float(entropy[keep].max()) if bool(keep.any()) else None
