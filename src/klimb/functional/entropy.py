"""Entropy of the next-token distribution, from logits."""

from __future__ import annotations

import torch

from klimb.functional.logprobs import log_softmax
from klimb.shapes import Logits, PerToken


def of_logits(logits: Logits) -> PerToken:
    """H[t] = -sum_v p log p in nats, float32 or wider, never below zero. Differentiable.

    An entry of -inf (a token that cannot be drawn) adds nothing. Source: Beyond the 80/20 Rule (2506.01939), Eq. 1.
    """
    logp = log_softmax(logits)
    finite = torch.where(torch.isinf(logp), torch.zeros_like(logp), logp)
    return -(logp.exp() * finite).sum(-1).clamp(max=0)
