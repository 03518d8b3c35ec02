"""Keys and values: a prompt's are kept once, whatever the number of its completions; each row has its own tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from klimb.generation.engine.attention import attend, causal, merge
from klimb.generation.engine.blocks import Block


class Cache:
    """Memory for P prompts and R rows of at most `room` tokens each, allocated once.

    `prompts` is [layer, key or value, P, kv head, longest prompt, d]; `own` is [layer, 2, R, kv head, room, d].
    """

    def __init__(
        self, blocks: Sequence[Block], sizes: Sequence[int], owners: Sequence[int], room: int, like: Tensor
    ) -> None:
        shape = blocks[0].shape
        self.blocks, self.sizes, self.device = blocks, tuple(sizes), like.device
        make = {"dtype": like.dtype, "device": like.device}
        depth, longest = len(blocks), max(sizes)
        self.prompts = torch.zeros(depth, 2, len(sizes), shape.kv_heads, longest, shape.dim, **make)  # type: ignore[call-overload]
        self.own = torch.empty(depth, 2, len(owners), shape.kv_heads, max(room, 1), shape.dim, **make)  # type: ignore[call-overload]
        self.mask = self._padding(like.dtype)
        self.lengths = torch.tensor(sizes, device=like.device)
        self.filled = 0
        self._place(list(owners))

    def prefill(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the flat prompts [n, h, d] to themselves; their keys and values are kept."""
        outs, start = [], 0
        shape = self.blocks[layer].shape
        for index, size in enumerate(self.sizes):
            part = slice(start, start + size)
            keys, values = k[part].transpose(0, 1), v[part].transpose(0, 1)
            self.prompts[layer, 0, index, :, :size] = keys
            self.prompts[layer, 1, index, :, :size] = values
            outs.append(causal(q[part].transpose(0, 1)[None], keys[None], values[None], shape))
            start += size
        return torch.cat(outs)

    def decode(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one new token a row, [r, h, d], to the row's prompt and its own tail, merged."""
        rows, shape = q.shape[0], self.blocks[layer].shape
        fold = (shape.kv_heads, shape.heads // shape.kv_heads, shape.dim)
        keys, values = self.own[layer, 0, :rows], self.own[layer, 1, :rows]
        keys[:, :, self.filled], values[:, :, self.filled] = k, v
        upto = self.filled + 1
        near = attend(q.reshape(rows, *fold), keys[:, :, :upto], values[:, :, :upto], None, shape)
        # All rows of a prompt ask it at once: one product per prompt and head, not one per row.
        wide = q.reshape(rows, -1).index_select(0, self.grid).view(len(self.sizes), -1, *fold)
        asked = wide.transpose(1, 2).flatten(2, 3)
        out, norm = attend(asked, self.prompts[layer, 0], self.prompts[layer, 1], self.mask, shape)
        seen = out.unflatten(2, (-1, fold[1])).transpose(1, 2).flatten(0, 1).index_select(0, self.places)
        norms = norm.unflatten(2, (-1, fold[1])).transpose(1, 2).flatten(0, 1).index_select(0, self.places)
        return merge(near, (seen, norms)).reshape(rows, -1)

    def positions(self) -> Tensor:
        """The position of each row's next token."""
        return self.starts + self.filled

    def keep(self, order: Sequence[int]) -> None:
        """Row i becomes what row order[i] was; only rows that change place are copied."""
        moved = [(new, old) for new, old in enumerate(order) if new != old]
        if moved:
            new, old = (torch.tensor(column, device=self.device) for column in zip(*moved, strict=True))
            tail = self.own[:, :, :, :, : self.filled]
            tail[:, :, new] = tail[:, :, old]
        self._place([self.owners[old] for old in order])

    def _place(self, owners: list[int]) -> None:
        """Which rows ask which prompt: `grid` [P * most] has a row for each seat, `places` [r] a seat for each row."""
        self.owners = owners
        seats: list[list[int]] = [[] for _ in self.sizes]
        for row, owner in enumerate(owners):
            seats[owner].append(row)
        most = max(len(seat) for seat in seats)
        places = [0] * len(owners)
        for owner, seat in enumerate(seats):
            for number, row in enumerate(seat):
                places[row] = owner * most + number
        flat = [row for seat in seats for row in seat + [0] * (most - len(seat))]
        self.grid, self.places = torch.tensor(flat, device=self.device), torch.tensor(places, device=self.device)
        self.starts = self.lengths[torch.tensor(owners, device=self.device)]

    def _padding(self, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores of places beyond a shorter prompt's end: [P, 1, 1, longest]."""
        if len(set(self.sizes)) == 1:
            return None
        places = torch.arange(max(self.sizes), device=self.device)
        beyond = places[None] >= torch.tensor(self.sizes, device=self.device)[:, None]
        mask = torch.zeros(beyond.shape, dtype=dtype, device=self.device).masked_fill_(beyond, float("-inf"))
        return mask[:, None, None]
