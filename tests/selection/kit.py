"""Batches to select from, and every selector."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import TypeAdapter

from klimb.batch import Batch
from klimb.selection import Above, AnySelector, Bottom, Every, Random, Selector, Top
from klimb.selection.base import Share

SHARES: list[Share] = [
    kind(share=share, population=population)
    for kind in (Top, Bottom, Random)
    for share in (0.2, 0.5)
    for population in ("batch", "row")
]
EVERY: list[Selector] = [*SHARES, Every(), Above(at=0.7)]


def named(selector: Selector) -> str:
    """A name for a test."""
    parts = [getattr(selector, name, "") for name in ("population", "share")]
    return "-".join([selector.type, *(str(part) for part in parts if part)])


def selector_of(**settings: Any) -> Selector:
    """The selector that these settings say."""
    found: Selector = TypeAdapter(AnySelector).validate_python(settings)
    return found


def some(seed: int = 0, rows: int = 12, longest: int = 9) -> Batch:
    """Rows of one to `longest` tokens, a third of which may not learn; entropies with many equals."""
    draw = torch.Generator().manual_seed(seed)
    row = torch.repeat_interleave(torch.arange(rows), torch.randint(1, longest + 1, (rows,), generator=draw))
    count = row.numel()
    return Batch(
        tokens=torch.randint(0, 9, (count,), generator=draw),
        row=row,
        group=torch.arange(rows) // 3,
        prompts=tuple(torch.zeros(2, dtype=torch.int64) for _ in range((rows + 2) // 3)),
        learn=torch.rand(count, generator=draw) < 0.67,
        reward=torch.randn(rows, generator=draw),
        scored=torch.ones(rows, dtype=torch.bool),
        truncated=torch.zeros(rows, dtype=torch.bool),
        entropy=torch.randint(0, 5, (count,), generator=draw) / 3,
        key=torch.randint(0, 1 << 62, (rows,), generator=draw),
    )


def reordered(whole: Batch, seed: int) -> tuple[Batch, torch.Tensor]:
    """The same rows in another order, and where its tokens stood."""
    order = torch.randperm(whole.rows, generator=torch.Generator().manual_seed(seed))
    tokens = torch.cat([torch.nonzero(whole.row == row).flatten() for row in order])
    per_token = {name: getattr(whole, name)[tokens] for name in ("tokens", "learn", "entropy")}
    per_row = {name: getattr(whole, name)[order] for name in ("reward", "scored", "truncated", "key", "group")}
    return whole.replace(**per_token, **per_row, row=torch.argsort(order)[whole.row[tokens]]), tokens
