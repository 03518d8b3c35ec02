"""Attention over a packed sequence: a prompt sees itself, a completion sees its prompt and itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from klimb.policy.kernel import shared_attention
from klimb.policy.packing import Family, Packing

NAME = "klimb"
"""The name under which transformers knows this attention."""

LARGE = 1 << 24
"""From this many scores in a block on, torch's attention is used, which never holds them all at once."""


class DoesNotFit(Exception):
    """The packed attention cannot do what this model asks for; the message says what."""


def attend(  # noqa: PLR0913 transformers decides
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls: packed where `packing` is given, else as `sdpa` does it.

    `query` is (1, heads, n, d), `key` and `value` (1, kv heads, n, d); gives (1, n, heads, d).
    """
    if packing is None:
        if softcap is not None:
            scale = scaling if scaling is not None else query.shape[-1] ** -0.5
            return _capped(query, key, value, attention_mask, scale, softcap).transpose(1, 2), None
        if sliding_window is not None:
            kwargs["sliding_window"] = sliding_window
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    check(packing, sliding_window, kwargs)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if packing.cells * query.shape[1] > LARGE:
        parts = [_family(query[0], key[0], value[0], family, scale, softcap) for family in packing.families]
        return torch.cat(parts, 1).transpose(0, 1)[None], None
    q, k, v = (side[0].transpose(0, 1) for side in (query, key, value))
    return shared_attention(q, k, v, packing.blocks, scale, softcap)[None], None


def check(packing: Packing, sliding_window: int | None, extras: dict[str, Any]) -> None:
    """Raises DoesNotFit where the model asks for something that packed attention does not do."""
    if sliding_window is not None and sliding_window < packing.longest:
        raise DoesNotFit(
            f"a sliding window of {sliding_window} tokens is shorter than the sequence ({packing.longest})"
        )
    strange = sorted(name for name in ("position_bias", "s_aux", "head_mask") if extras.get(name) is not None)
    if strange:
        raise DoesNotFit(f"its attention takes {', '.join(strange)}")


def mask_of(family: Family, device: torch.device) -> Tensor:
    """Which place of a family (m, all its tokens) sees which: (m, m), True = sees."""
    sizes = torch.tensor([family.prompt, *family.rows])
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)
    same = (owner[:, None] == owner[None, :]) | (owner[None, :] == 0)
    return same.tril()


def _family(query: Tensor, key: Tensor, value: Tensor, family: Family, scale: float, softcap: float | None) -> Tensor:
    """One family's attention: (heads, m, d)."""
    places = slice(family.start, family.stop)
    q, k, v = query[None, :, places], key[None, :, places], value[None, :, places]
    mask = mask_of(family, query.device)[None, None]
    if softcap is not None:
        return _capped(q, k, v, mask, scale, softcap)[0]
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    return nnf.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)[0]


def _capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """Attention whose scores are soft-capped before the mask (Gemma 2): (b, heads, n, d)."""
    repeats = query.shape[1] // key.shape[1]
    scores = torch.matmul(query, key.repeat_interleave(repeats, 1).transpose(-1, -2)) * scale
    scores = torch.tanh(scores.float() / softcap) * softcap
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(
            scores.shape[-1] - scores.shape[-2]
        )
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.matmul(scores.softmax(-1).to(value.dtype), value.repeat_interleave(repeats, 1))


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
