"""The tokens whose entropy is at least a fixed number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb.selection.base import EntropyOf, Selector, entropy_of

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import PerToken, TokenMask, TokenRows


class Above(Selector):
    """The learning tokens with an entropy of `at` or more: the share that is kept moves with the policy.

    It may come to be none, and then there is no update; `selection/share` tells.
    """

    type: Literal["above"] = "above"
    at: Annotated[float, Field(ge=0.0)]
    """The threshold in nats; 2506.01939 reports 0.672 as the 80th percentile of Qwen3-8B."""
    entropy: EntropyOf = EntropyOf()
    """Whose entropy."""

    @property
    def ranks_by(self) -> EntropyOf:
        return self.entropy

    def keep(self, batch: Batch, parts: TokenRows | None = None) -> TokenMask:
        return batch.learn & (entropy_of(batch) >= self.at)

    def threshold(self, entropy: PerToken, keep: TokenMask) -> float | None:
        return self.at
