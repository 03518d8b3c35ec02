"""A micro-batch as one flat sequence: each prompt once, then its completions, with no padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from klimb.batch import Batch

WASTE = 0.25
"""The largest share of a block's cells that may be padding."""


@dataclass(frozen=True, slots=True)
class Family:
    """One prompt and its completions in the flat sequence.

    The prompt lies at `start : start + prompt`; completion i follows with `rows[i]` tokens, one after another.
    """

    start: int
    prompt: int
    rows: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Where the next family begins."""
        return self.start + self.prompt + sum(self.rows)


@dataclass(frozen=True, slots=True)
class Block:
    """Some completions of a family padded to one length, for attention: each query sees the prompt and its own row.

    `places` (rows * width) are the queries' places in the flat sequence, padding at the row's last one; `real` and
    `padding` are the indices into `places` of either kind, None where there is no padding. `mask` (width,
    prompt + width) is -inf where a query does not see a key. With `prompt` 0 the one row is the prompt itself.
    """

    start: int
    prompt: int
    rows: int
    width: int
    places: Tensor
    mask: Tensor
    real: Tensor | None = None
    padding: Tensor | None = None

    @classmethod
    def of(cls, start: int, prompt: int, rows: list[tuple[int, int]], device: torch.device) -> Block:
        """The block of some rows (place, length), the longest first, whose prompt lies at `start`."""
        width = rows[0][1]
        steps = torch.arange(width, device=device)
        places = torch.cat([first + steps.clamp(max=length - 1) for first, length in rows])
        unseen = torch.ones(width, prompt + width, dtype=torch.bool, device=device).triu(prompt + 1)
        mask = torch.zeros(width, prompt + width, device=device).masked_fill_(unseen, float("-inf"))
        if rows[-1][1] == width:
            return cls(start, prompt, len(rows), width, places, mask)
        filled = torch.cat([steps < length for _, length in rows])
        return cls(start, prompt, len(rows), width, places, mask, filled.nonzero()[:, 0], (~filled).nonzero()[:, 0])


@dataclass(frozen=True, slots=True)
class Packing:
    """The flat sequence (n tokens) of a batch (t completion tokens).

    `positions[n]` restart at the prompt's length for each completion; `source[t]` is the place in the flat sequence
    whose hidden state predicts token t. A completion's last token predicts nothing and is left out.
    """

    tokens: Tensor
    positions: Tensor
    source: Tensor
    families: tuple[Family, ...]
    blocks: tuple[Block, ...]

    @property
    def longest(self) -> int:
        """The most tokens that any token can look back on, itself included."""
        return max((f.prompt + max(f.rows, default=0) for f in self.families), default=0)

    @property
    def cells(self) -> int:
        """The most scores that a block has for one head."""
        return max((block.rows * block.mask.numel() for block in self.blocks), default=0)

    @classmethod
    def of(cls, batch: Batch) -> Packing:
        """Packs a batch; rows of one prompt are put side by side, wherever they stand in the batch."""
        device = batch.tokens.device
        lengths, groups = batch.lengths.tolist(), batch.group.tolist()
        starts = [0, *torch.tensor(lengths).cumsum(0).tolist()]
        members: dict[int, list[int]] = {}
        for row, group in enumerate(groups):
            if lengths[row]:
                members.setdefault(group, []).append(row)
        tokens, positions = [batch.tokens[:0]], [batch.tokens[:0]]
        source = torch.empty_like(batch.tokens)
        families: list[Family] = []
        place = 0
        for group, rows in members.items():
            prompt = batch.prompts[group]
            family = Family(place, prompt.numel(), tuple(lengths[row] - 1 for row in rows))
            families.append(family)
            tokens.append(prompt)
            positions.append(torch.arange(family.prompt, device=device))
            place += family.prompt
            for row, kept in zip(rows, family.rows, strict=True):
                first = starts[row]
                source[first] = family.start + family.prompt - 1
                source[first + 1 : first + 1 + kept] = torch.arange(place, place + kept, device=device)
                tokens.append(batch.tokens[first : first + kept])
                positions.append(torch.arange(family.prompt, family.prompt + kept, device=device))
                place += kept
        blocks = tuple(block for family in families for block in blocks_of(family, device))
        return cls(torch.cat(tokens), torch.cat(positions), source, tuple(families), blocks)


def blocks_of(family: Family, device: torch.device) -> list[Block]:
    """The prompt, then the completions in blocks of like length."""
    found = [Block.of(family.start, 0, [(family.start, family.prompt)], device)]
    rows, place = [], family.start + family.prompt
    for length in family.rows:
        rows.append((place, length))
        place += length
    block: list[tuple[int, int]] = []
    for row in sorted((row for row in rows if row[1]), key=lambda row: (-row[1], row[0])):
        if block and 1.0 - sum(length for _, length in [*block, row]) / ((len(block) + 1) * block[0][1]) > WASTE:
            found.append(Block.of(family.start, family.prompt, block, device))
            block = []
        block.append(row)
    if block:
        found.append(Block.of(family.start, family.prompt, block, device))
    return found
