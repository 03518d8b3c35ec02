"""Log-probs without gradients: of the initial policy, or of this one before it moves."""

from __future__ import annotations

from collections.abc import Callable

import torch

from klimb.batch import Batch, Outputs
from klimb.shapes import PerToken

Forward = Callable[[Batch], Outputs]


def outputs(policy: Forward, batch: Batch, tokens: int) -> Outputs:
    """The log-prob and the entropy of each token of the batch under `policy`, in parts of `tokens` tokens."""
    with torch.no_grad():
        found = [policy(part) for part in batch.split(tokens)]
    return Outputs(*(torch.cat([getattr(one, name) for one in found]) for name in ("logp", "entropy")))


def measure(policy: Forward, batch: Batch, tokens: int) -> PerToken:
    """The log-prob of each token of the batch under `policy`, in parts of `tokens` tokens."""
    return outputs(policy, batch, tokens).logp
