"""Log-probs and values without gradients: of the initial policy, or of this one before it moves."""

from __future__ import annotations

from collections.abc import Callable

import torch

from klimb.batch import Batch, Outputs
from klimb.shapes import PerToken

Forward = Callable[[Batch], Outputs]


def outputs(policy: Forward, batch: Batch, tokens: int) -> Outputs:
    """Log-prob, entropy and (with a critic) value of each token of the batch under `policy`, in parts of `tokens`."""
    with torch.no_grad():
        found = [policy(part) for part in batch.split(tokens)]
    values = [out.value for out in found if out.value is not None]
    logp, entropy = (torch.cat([getattr(one, name) for one in found]) for name in ("logp", "entropy"))
    return Outputs(logp, entropy, torch.cat(values) if values else None)


def values(critic: Callable[[Batch], PerToken], batch: Batch, tokens: int) -> PerToken:
    """The value before each token of the batch by a critic that needs no policy, in parts of `tokens`."""
    with torch.no_grad():
        return torch.cat([critic(part) for part in batch.split(tokens)])


def measure(policy: Forward, batch: Batch, tokens: int) -> PerToken:
    """The log-prob of each token of the batch under `policy`, in parts of `tokens` tokens."""
    return outputs(policy, batch, tokens).logp
