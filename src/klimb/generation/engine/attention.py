"""The attention of a prompt to itself, and the soft cap that some models put on scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as nnf

if TYPE_CHECKING:
    from klimb.generation.engine.blocks import Shape


def causal(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
    """Causal attention of one prompt to itself, q [n, h, d], k and v [n, kv head, d]: [n, h * d]."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    if shape.softcap is None:
        out = nnf.scaled_dot_product_attention(q, k, v, is_causal=True, scale=shape.scale, enable_gqa=True)
    else:
        repeats = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        scores = capped(torch.matmul(q, k.transpose(-1, -2)).float() * shape.scale, shape)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        out = torch.matmul(scores.masked_fill(later, float("-inf")).softmax(-1).to(v.dtype), v)
    return out[0].transpose(0, 1).flatten(1)


def capped(scores: Tensor, shape: Shape) -> Tensor:
    """cap * tanh(scores / cap) where the model has a cap (Gemma 2)."""
    return scores if shape.softcap is None else torch.tanh(scores / shape.softcap) * shape.softcap
