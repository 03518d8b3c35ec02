"""Log-probs without gradients: of the initial policy, or of this one before it moves."""

from __future__ import annotations

from collections.abc import Callable

import torch

from klimb.batch import Batch, Outputs
from klimb.shapes import PerToken

Forward = Callable[[Batch], Outputs]


def measure(policy: Forward, batch: Batch, tokens: int) -> PerToken:
    """The log-prob of each token of the batch under `policy`, in parts of `tokens` tokens."""
    with torch.no_grad():
        return torch.cat([policy(part).logp for part in batch.split(tokens)])
