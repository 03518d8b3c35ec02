"""Keys and values: a prompt's are kept once, whatever the number of its completions; each row has its own tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from klimb.generation.engine.attention import capped, causal
from klimb.generation.engine.blocks import Block

STRIDE = 32
"""Rows' memory is used in steps of so many tokens: products read it whole, for a part of it would be copied first."""


class Cache:
    """Memory for P prompts and R rows of at most `room` tokens each, allocated once.

    Keys lie transposed, for products with them are twice as fast so: `prompt_keys` [layer, P, kv head, d, longest]
    and `keys` [layer, R, kv head, d, width]; values as they come: [layer, P, kv head, longest, d], [.., width, d].
    `width` grows by STRIDE within the memory.
    All rows of a prompt ask it in one product: `seats` [P, kv head, most rows] names the (row, kv head) of each place
    in that product, `places` [r, kv head] the place of each row; seats without a row repeat row 0.
    """

    def __init__(
        self, blocks: Sequence[Block], sizes: Sequence[int], owners: Sequence[int], room: int, like: Tensor
    ) -> None:
        shape = blocks[0].shape
        self.shapes, self.sizes, self.device = [block.shape for block in blocks], tuple(sizes), like.device
        make: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        depth, heads, dim, longest = len(blocks), shape.kv_heads, shape.dim, max(sizes)
        self.prompt_keys = torch.zeros(depth, len(sizes), heads, dim, longest, **make)
        self.prompt_values = torch.zeros(depth, len(sizes), heads, longest, dim, **make)
        self.memory = torch.empty(2, depth * len(owners) * heads * dim * (-(-room // STRIDE) * STRIDE), **make)
        self.keys = torch.empty(depth, len(owners), heads, dim, 0, **make)
        self.values = torch.empty(depth, len(owners), heads, 0, dim, **make)
        self.mask = self._padding(heads, like.dtype)
        self.lengths = torch.tensor(sizes, device=like.device)
        self.filled = 0
        self._place(list(owners))
        self._widen()

    def prefill(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the flat prompts [n, h, d] to themselves, [n, h * d]; their keys and values are kept."""
        outs, start = [], 0
        for index, size in enumerate(self.sizes):
            part = slice(start, start + size)
            self.prompt_keys[layer, index, :, :, :size] = k[part].permute(1, 2, 0)
            self.prompt_values[layer, index, :, :size] = v[part].transpose(0, 1)
            outs.append(causal(q[part], k[part], v[part], self.shapes[layer]))
            start += size
        return torch.cat(outs)

    def decode(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one new token a row, [r, h, d], to the row's prompt and its own tokens: [r, h * d]."""
        rows, shape = q.shape[0], self.shapes[layer]
        fold, upto = shape.heads // shape.kv_heads, self.filled + 1
        self.keys[layer, :rows, :, :, self.filled], self.values[layer, :rows, :, self.filled] = k, v
        keys, values = self.keys[layer, :rows].flatten(0, 1), self.values[layer, :rows].flatten(0, 1)
        asked = (q * shape.scale).view(-1, fold, shape.dim)  # query heads of a kv head are rows of one product
        near = capped(torch.bmm(asked, keys), shape)
        near[..., upto:] = float("-inf")
        far = self._ask(asked, self.prompt_keys[layer].flatten(0, 1))
        far = capped(far, shape) if self.mask is None else capped(far, shape) + self.mask
        far = far.view(self.seats.numel(), fold, -1).index_select(0, self.places)
        shares = torch.cat([far, near], -1).softmax(-1)
        out = torch.bmm(shares[..., far.shape[-1] :], values)
        seen = self._ask(shares[..., : far.shape[-1]], self.prompt_values[layer].flatten(0, 1))
        out += seen.view(self.seats.numel(), fold, -1).index_select(0, self.places)
        return out.view(rows, -1)

    def positions(self) -> Tensor:
        """The position of each row's next token."""
        return self.starts + self.filled

    def advance(self) -> None:
        """The rows' newest tokens are in; makes room for one more."""
        self.filled += 1
        if self.filled == self.values.shape[3]:
            self._widen()

    def keep(self, order: Sequence[int]) -> None:
        """Row i becomes what row order[i] was; only rows that change place are copied."""
        moved = [(new, old) for new, old in enumerate(order) if new != old]
        if moved:
            new, old = (torch.tensor(column, device=self.device) for column in zip(*moved, strict=True))
            keys, values = self.keys[..., : self.filled], self.values[..., : self.filled, :]
            keys[:, new], values[:, new] = keys[:, old], values[:, old]
        self._place([self.owners[old] for old in order])

    def _ask(self, each: Tensor, prompts: Tensor) -> Tensor:
        """What each row and kv head has, [r * kv head, fold, n], times its prompt's [P * kv head, n, m], by seats."""
        wide = each.index_select(0, self.seats).view(prompts.shape[0], -1, each.shape[-1])
        return torch.bmm(wide, prompts)

    def _widen(self) -> None:
        """Lays the live rows out anew, STRIDE tokens wider; new places are zero, for they are multiplied by zero."""
        rows, width = len(self.owners), self.filled + STRIDE
        keys, values = self.keys[:, :rows].clone(), self.values[:, :rows].clone()
        depth, _, heads, dim, _ = keys.shape
        size = depth * rows * heads * dim * width
        if size > self.memory.shape[1]:
            return  # the last token's place: no more will come
        self.keys = self.memory[0, :size].view(depth, rows, heads, dim, width)
        self.values = self.memory[1, :size].view(depth, rows, heads, width, dim)
        self.keys[..., : self.filled], self.keys[..., self.filled :] = keys, 0.0
        self.values[..., : self.filled, :], self.values[..., self.filled :, :] = values, 0.0

    def _place(self, owners: list[int]) -> None:
        self.owners = owners
        heads = self.keys.shape[2]
        seats: list[list[int]] = [[] for _ in self.sizes]
        for row, owner in enumerate(owners):
            seats[owner].append(row)
        most = max(len(seat) for seat in seats)
        number = {row: index for seat in seats for index, row in enumerate(seat)}
        rows = torch.tensor([seat + [0] * (most - len(seat)) for seat in seats], device=self.device)
        head = torch.arange(heads, device=self.device)
        self.seats = (rows[:, None] * heads + head[:, None]).flatten()
        owned = torch.tensor(owners, device=self.device)
        place = torch.tensor([number[row] for row in range(len(owners))], device=self.device)
        self.places = ((owned[:, None] * heads + head) * most + place[:, None]).flatten()
        self.starts = self.lengths[owned]

    def _padding(self, heads: int, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores of places beyond a shorter prompt's end: [P * kv head, 1, longest]."""
        if len(set(self.sizes)) == 1:
            return None
        places = torch.arange(max(self.sizes), device=self.device)
        beyond = places >= torch.tensor(self.sizes, device=self.device).repeat_interleave(heads)[:, None]
        return torch.zeros(beyond.shape, dtype=dtype, device=self.device).masked_fill_(beyond, float("-inf"))[:, None]
