"""Random batches, and what an objective makes of one."""

from __future__ import annotations

import torch
from torch import Tensor

from klimb.batch import Batch, Outputs
from klimb.objectives.base import Objective
from klimb.shapes import PerToken


def sample_batch(seed: int = 0, prompts: int = 4, unscored: bool = True) -> Batch:
    """Random groups of one to four answers of one to five tokens, in float64, on- and off-policy fields filled.

    One group has equal rewards, and (`unscored`) some rows have no score; some tokens do not learn.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(count: int, scale: float) -> Tensor:
        return torch.randn(count, generator=draw, dtype=torch.float64) * scale

    sizes = torch.randint(1, 5, (prompts,), generator=draw)
    group = torch.repeat_interleave(torch.arange(prompts), sizes)
    row = torch.repeat_interleave(torch.arange(len(group)), torch.randint(1, 6, (len(group),), generator=draw))
    scored = torch.rand(len(group), generator=draw) < (0.8 if unscored else 2.0)
    reward = torch.where(group == 1, torch.full((len(group),), 0.1, dtype=torch.float64), normal(len(group), 1.0))
    old = -torch.rand(len(row), generator=draw, dtype=torch.float64) * 3 - 0.01
    return Batch(
        tokens=torch.randint(0, 9, (len(row),), generator=draw),
        row=row,
        group=group,
        prompts=tuple(torch.zeros(2, dtype=torch.int64) for _ in range(prompts)),
        learn=scored[row] & (torch.rand(len(row), generator=draw) < 0.9),
        reward=reward,
        scored=scored,
        truncated=torch.zeros(len(group), dtype=torch.bool),
        old=old,
        ref=old + normal(len(row), 0.5),
        value=normal(len(row), 1.0),
    )


def ready(objective: Objective, batch: Batch) -> Batch:
    """With advantages and weights, as the training step makes them."""
    batch = objective.advantage(batch)
    return batch.replace(weight=objective.weighting(batch).to(torch.float64))


def moved(batch: Batch, seed: int = 1, scale: float = 0.4) -> PerToken:
    """Log-probs of a policy that has moved away from the one that sampled: a leaf."""
    draw = torch.Generator().manual_seed(seed)
    assert batch.old is not None
    step = torch.randn(len(batch.old), generator=draw, dtype=torch.float64) * scale
    return (batch.old + step).requires_grad_()


def outputs(logp: PerToken, value: PerToken | None = None, divergence: PerToken | None = None) -> Outputs:
    """What a policy and its critic say, as far as objectives look."""
    return Outputs(logp, torch.zeros_like(logp), value, divergence)


def update(objective: Objective, batch: Batch, logp: PerToken) -> tuple[dict[str, float], Tensor]:
    """Loss and metrics, and the gradient with respect to each token's log-prob."""
    terms = objective.loss(outputs(logp, batch.value), batch)
    (gradient,) = torch.autograd.grad(terms.loss, logp)
    sums = {"loss": terms.loss.detach(), **terms.metrics, **terms.kl}
    return {name: float(value) for name, value in sums.items()}, gradient


def reordered(whole: Batch, seed: int) -> tuple[Batch, Tensor]:
    """The same batch with its groups, and the rows within them, in another order; and where its tokens were."""
    draw = torch.Generator().manual_seed(seed)
    names = torch.randperm(len(whole.prompts), generator=draw)
    rows = torch.randperm(whole.rows, generator=draw)
    rows = rows[torch.argsort(names[whole.group[rows]], stable=True)]
    tokens = torch.cat([torch.nonzero(whole.row == row).flatten() for row in rows])
    place = torch.argsort(rows)
    return whole.replace(
        **{name: getattr(whole, name)[tokens] for name in ("tokens", "learn", "old", "ref", "value")},
        **{name: getattr(whole, name)[rows] for name in ("reward", "scored", "truncated")},
        row=place[whole.row[tokens]],
        group=names[whole.group[rows]],
    ), tokens
