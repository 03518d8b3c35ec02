"""A micro-batch as one flat sequence: each prompt once, then its completions, with no padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from klimb.batch import Batch


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
class Packing:
    """The flat sequence (n tokens) of a batch (t completion tokens).

    `positions[n]` restart at the prompt's length for each completion; `source[t]` is the place in the flat sequence
    whose hidden state predicts token t. A completion's last token predicts nothing and is left out.
    """

    tokens: Tensor
    positions: Tensor
    source: Tensor
    families: tuple[Family, ...]

    @property
    def longest(self) -> int:
        """The most tokens that any token can look back on, itself included."""
        return max((f.prompt + max(f.rows, default=0) for f in self.families), default=0)

    @classmethod
    def of(cls, batch: Batch) -> Packing:
        """Packs a batch; rows of one prompt are put side by side, wherever they stand in the batch."""
        lengths, groups = batch.lengths.tolist(), batch.group.tolist()
        starts = [0, *torch.tensor(lengths).cumsum(0).tolist()]
        members: dict[int, list[int]] = {}
        for row, group in enumerate(groups):
            if lengths[row]:
                members.setdefault(group, []).append(row)
        tokens: list[Tensor] = []
        positions: list[Tensor] = []
        source = torch.empty(batch.tokens.numel(), dtype=torch.int64)
        families: list[Family] = []
        place = 0
        for group, rows in members.items():
            prompt = batch.prompts[group]
            size = prompt.numel()
            start, last = place, place + size - 1
            tokens.append(prompt)
            positions.append(torch.arange(size))
            place += size
            for row in rows:
                first, kept = starts[row], lengths[row] - 1
                source[first] = last
                source[first + 1 : first + 1 + kept] = torch.arange(place, place + kept)
                tokens.append(batch.tokens[first : first + kept])
                positions.append(torch.arange(size, size + kept))
                place += kept
            families.append(Family(start, size, tuple(lengths[row] - 1 for row in rows)))
        device = batch.tokens.device
        return cls(
            tokens=torch.cat(tokens) if tokens else batch.tokens[:0],
            positions=(torch.cat(positions) if positions else torch.empty(0, dtype=torch.int64)).to(device),
            source=source.to(device),
            families=tuple(families),
        )
