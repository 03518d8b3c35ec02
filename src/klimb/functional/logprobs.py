"""Log-probability of a given token, from logits."""

from __future__ import annotations

import torch

from klimb.shapes import Logits, PerToken, TokenIds


def log_softmax(logits: Logits) -> Logits:
    """log p[t, v] in nats, in float32 or wider: z - logsumexp(z). Differentiable."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.to(wide), dim=-1)


def of_tokens(logits: Logits, tokens: TokenIds) -> PerToken:
    """log p(tokens[t]) in nats under softmax(logits[t]), in float32 or wider. Differentiable."""
    return log_softmax(logits).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
