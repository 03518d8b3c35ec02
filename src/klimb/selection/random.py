"""A random share of the tokens: the control without which a selection by entropy says nothing (2605.07660)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb.selection.base import Share

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import TokenMask, TokenRows


class Random(Share):
    """A `share` of the learning tokens drawn by `seed`; a batch that is learned from twice keeps the same tokens."""

    type: Literal["random"] = "random"

    def keep(self, batch: Batch, parts: TokenRows | None = None) -> TokenMask:
        return self.of_largest(batch, batch.tokens.new_zeros(batch.tokens.numel()).float(), parts)
