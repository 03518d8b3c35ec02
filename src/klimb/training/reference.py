"""Log-probs and values without gradients: of the initial policy, or of this one before it moves."""

from __future__ import annotations

from collections.abc import Callable

import torch

from klimb.batch import Batch, Outputs
from klimb.shapes import PerToken

Forward = Callable[[Batch], Outputs]


def measure(policy: Forward, batch: Batch, tokens: int) -> PerToken:
    """The log-prob of each token of the batch under `policy`, in parts of `tokens` tokens."""
    return measure_both(policy, batch, tokens)[0]


def measure_both(policy: Forward, batch: Batch, tokens: int) -> tuple[PerToken, PerToken | None]:
    """The log-prob of each token and the value before it, by one forward; None where the policy has no critic."""
    with torch.no_grad():
        found = [policy(part) for part in batch.split(tokens)]
    values = [out.value for out in found if out.value is not None]
    return torch.cat([out.logp for out in found]), torch.cat(values) if values else None
