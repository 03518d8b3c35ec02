"""The other steps of a run that stand beside the one that is looked at: a few, and of each a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klimb.batch import Batch

STEPS = 3
"""Steps whose rollouts are scored for the overlap over training."""
TOKENS = 256
"""About how many tokens of each of them."""


def spaced(steps: Sequence[int], most: int = STEPS) -> list[int]:
    """At most so many of the steps, evenly, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def some(batch: Batch, tokens: int = TOKENS) -> Batch:
    """Whole rows of the batch, evenly over it, of about so many tokens."""
    import torch

    share = min(1.0, tokens / max(1, batch.tokens.numel()))
    count = max(1, round(share * batch.rows))
    return batch.take(torch.linspace(0, batch.rows - 1, count).long().unique())
