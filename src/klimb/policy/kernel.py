"""Attention of one family, prompt shared: forward and backward as batched matrix products, float32 where it counts."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from klimb.policy.packing import Block


def shared_attention(
    query: Tensor, key: Tensor, value: Tensor, blocks: tuple[Block, ...], scale: float, softcap: float | None
) -> Tensor:
    """Attention of a packed sequence, (n, heads, d) from `query` (n, heads, d), `key` and `value` (n, kv heads, d).

    The scores are float32; the probabilities are kept for the backward pass in the precision of `value`.
    """
    out: Tensor = cast(Any, _Attention).apply(query, key, value, blocks, scale, softcap)
    return out


def _block(
    query: Tensor, key: Tensor, value: Tensor, block: Block, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The block's outputs (rows * width, heads, d), its probabilities, and the softcap's slope."""
    folded, keys, values = _fold(query, key, block), _keys(key, block), _keys(value, block)
    mask, slope = block.mask.repeat(folded.shape[1] // block.width, 1), None
    if softcap is None:
        scores = torch.baddbmm(mask, folded.float(), keys.float().transpose(1, 2), alpha=scale)
    else:
        capped = torch.bmm(folded.float(), keys.float().transpose(1, 2)).mul_(scale / softcap).tanh_()
        slope = (1.0 - capped.square()).to(value.dtype)
        scores = capped.mul_(softcap).add_(mask)
    shares = torch.softmax(scores, -1).to(value.dtype)
    return _unfold(torch.bmm(shares, values), query, block), shares, slope


def _fold(query: Tensor, key: Tensor, block: Block, blank: bool = False) -> Tensor:
    """Queries by key/value head: (rows * kv heads, repeats * width, d); `blank` puts zeros where there is padding."""
    kv, d = key.shape[1], key.shape[2]
    repeats = query.shape[1] // kv
    taken = query.index_select(0, block.places)
    if blank and block.padding is not None:
        taken.index_fill_(0, block.padding, 0.0)
    taken = taken.view(block.rows, block.width, kv, repeats, d)
    return taken.permute(0, 2, 3, 1, 4).reshape(block.rows * kv, repeats * block.width, d)


def _unfold(folded: Tensor, query: Tensor, block: Block) -> Tensor:
    """The other way round: (rows * width, heads, d)."""
    heads, d = query.shape[1:]
    kv = folded.shape[0] // block.rows
    spread = folded.view(block.rows, kv, heads // kv, block.width, d).permute(0, 3, 1, 2, 4)
    return spread.reshape(block.rows * block.width, heads, d)


def _keys(key: Tensor, block: Block) -> Tensor:
    """The prompt's keys and each row's own: (rows * kv heads, prompt + width, d)."""
    kv, d = key.shape[1:]
    own = key.index_select(0, block.places).view(block.rows, block.width, kv, d)
    if block.prompt:
        shared = key[block.start : block.start + block.prompt]
        own = torch.cat([shared.expand(block.rows, -1, -1, -1), own], 1)
    return own.transpose(1, 2).reshape(block.rows * kv, block.prompt + block.width, d)


def _put(total: Tensor, part: Tensor, block: Block) -> None:
    """Writes a block's part (rows * width, heads, d) to its places, padding left out."""
    if block.real is None:
        total.index_copy_(0, block.places, part)
    else:
        total.index_copy_(0, block.places[block.real], part[block.real])


def _add_keys(total: Tensor, folded: Tensor, block: Block) -> None:
    """Adds the gradient of a block's keys: each row's own, and the prompt's, summed over the rows."""
    kv, d = total.shape[1:]
    spread = folded.view(block.rows, kv, block.prompt + block.width, d).transpose(1, 2)
    own = spread[:, block.prompt :].reshape(block.rows * block.width, kv, d)
    if block.prompt:
        total[block.start : block.start + block.prompt] += spread[:, : block.prompt].sum(0)
        _put(total, own, block)
    else:
        total[block.start : block.start + block.width] += own


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: tuple[Block, ...],
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept: list[Tensor | None] = []
        for block in blocks:
            part, shares, slope = _block(query, key, value, block, scale, softcap)
            _put(out, part, block)
            kept += [shares, slope]
        ctx.save_for_backward(query, key, value, *kept)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        grads = (torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value))
        for number, block in enumerate(ctx.blocks):
            shares, slope = kept[2 * number], kept[2 * number + 1]
            folded, keys, values = _fold(query, key, block), _keys(key, block), _keys(value, block)
            out = _fold(grad, key, block, blank=True)
            by_share = torch.bmm(out, values.transpose(1, 2))
            by_score = torch._softmax_backward_data(by_share, shares, -1, shares.dtype)
            by_score = by_score if slope is None else by_score.mul_(slope)
            _put(grads[0], _unfold(torch.bmm(by_score, keys).mul_(ctx.scale), query, block), block)
            _add_keys(grads[1], torch.bmm(by_score.transpose(1, 2), folded).mul_(ctx.scale), block)
            _add_keys(grads[2], torch.bmm(shares.transpose(1, 2), out), block)
        return *grads, None, None, None
