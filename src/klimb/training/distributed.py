"""A step over several processes: weights are made over the tokens of all ranks, gradients are summed.

Prepared, and not in use: a run is one process today, and tests alone start two. A rank's batch holds whole groups.
Losses never divide, so the sum of the ranks' losses and gradients is that of one process; only what is made over the
whole step (the weights) must see the tokens of all.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from klimb.batch import Batch
from klimb.objectives.base import Objective
from klimb.selection.base import Selector
from klimb.shapes import PerToken
from klimb.training.selecting import parts_of
from klimb.training.updater import Updater
from klimb.training.weighing import narrowed


def weigh(batch: Batch, objective: Objective, selector: Selector, tokens: int = 1 << 30) -> Batch:
    """As `klimb.training.weighing.weigh`, with weights made over the rows of every rank; parts are of the rank's own.

    Every rank must call this, also with an empty batch.
    """
    keep = selector.keep(batch, parts_of(batch, tokens) if selector.by_parts else None)
    return narrowed(batch, keep, objective, selector, lambda one: _weights(one, objective))


def _weights(batch: Batch, objective: Objective) -> PerToken:
    """Each rank sends which of its tokens learn and to which row they belong: what weights are made of."""
    sizes = _gathered(torch.tensor([batch.learn.numel(), batch.rows]))
    tokens, rows = (torch.stack(sizes)[:, place] for place in (0, 1))
    rank, mine = dist.get_rank(), torch.stack([batch.row, batch.learn.to(torch.int64)])
    padded = torch.zeros(2, int(tokens.max()), dtype=torch.int64)
    padded[:, : mine.shape[1]] = mine
    first = torch.cumsum(rows, 0) - rows
    parts = [part[:, : int(count)] for part, count in zip(_gathered(padded), tokens, strict=True)]
    total = int(rows.sum())
    nothing = torch.zeros(total, dtype=torch.bool)
    whole = batch.replace(
        row=torch.cat([part[0] + start for part, start in zip(parts, first, strict=True)]),
        learn=torch.cat([part[1].bool() for part in parts]),
        group=torch.arange(total),
        scored=nothing,
        truncated=nothing,
        reward=torch.zeros(total),
    )
    before = int(tokens[:rank].sum())
    return objective.weighting(whole)[before : before + batch.learn.numel()]


def add_gradients(updaters: Iterable[Updater]) -> None:
    """Replaces each gradient of a step by its sum over the ranks, before anything reads its norm.

    Every rank must call this, after `begin` with the number of parts of all ranks together, so that sums are in one
    dtype. A rank without rows, or without a gradient of some weight, adds zeros; what no rank has stays without one.
    """
    for updater in updaters:
        names, found = list(updater.parameters), updater.gradients()
        ranks = torch.tensor([name in found for name in names], dtype=torch.int64)
        dist.all_reduce(ranks)
        for name in (one for one, some in zip(names, ranks.tolist(), strict=True) if some):
            dist.all_reduce(updater.gradient(name))


def _gathered(value: Tensor) -> list[Tensor]:
    out = [torch.zeros_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(out, value)
    return out
