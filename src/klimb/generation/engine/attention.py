"""Attention that also tells the log of its softmax's denominator, so that two parts of one softmax can be merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as nnf

if TYPE_CHECKING:
    from klimb.generation.engine.blocks import Shape

Part = tuple[Tensor, Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, shape: Shape) -> Part:
    """Softmax attention of q [b, h, m, d] to k and v [b, h, n, d]: result, and log of the denominator [b, h, m]."""
    if q.device.type == "cpu" and shape.softcap is None:
        out, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, False, attn_mask=mask, scale=shape.scale
        )
        return out, norm
    scores = _scores(q, k, shape)
    if mask is not None:
        scores = scores + mask
    norm = scores.logsumexp(-1)
    return torch.matmul((scores - norm[..., None]).exp().to(v.dtype), v), norm


def merge(one: Part, other: Part) -> Tensor:
    """The attention over both parts' keys: a mean of the results, weighted by their shares of the denominator."""
    share = torch.sigmoid(other[1] - one[1]).to(one[0].dtype)[..., None]
    return torch.lerp(one[0], other[0], share)


def causal(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
    """Causal attention of a prompt to itself, q [1, h, n, d], k and v [1, kv head, n, d]: [n, h * d]."""
    if shape.softcap is None:
        out = nnf.scaled_dot_product_attention(q, k, v, is_causal=True, scale=shape.scale, enable_gqa=True)
    else:
        repeats = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        scores = _scores(q, k, shape)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        out = torch.matmul(scores.masked_fill(later, float("-inf")).softmax(-1).to(v.dtype), v)
    return out[0].transpose(0, 1).flatten(1)


def _scores(q: Tensor, k: Tensor, shape: Shape) -> Tensor:
    """Scaled (and soft-capped: cap * tanh(s / cap)) scores, float32."""
    scores = torch.matmul(q, k.transpose(-1, -2)).float() * shape.scale
    return scores if shape.softcap is None else torch.tanh(scores / shape.softcap) * shape.softcap
