"""What a policy says of each token of some rollouts: one packed forward pass, and never a matrix of all logits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.batch import Batch
    from klimb.policy.policy import Policy

Floats = NDArray[np.float32]

TOP = 5
"""How many of the likeliest tokens are kept at each place."""
FAR = -1e4
"""The log-prob of a token that cannot be drawn: exp(FAR) is zero."""
CHUNK = 64
"""Places whose logits are held at once: 13 MB for a vocabulary of 49,152."""
BLOCK = 64
"""Neighbours in the vocabulary that are compared by their largest first."""
PART = 2048
"""The most tokens (prompts once) in one forward pass."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Per token (t) at the batch's temperature, in nats: the log-prob, the entropy, the likeliest tokens (t, 5).

    `initial_logp`, `initial_entropy` and `kl` = KL(policy || initial), exact over the vocabulary, where an initial
    policy was given.
    """

    logp: Floats
    entropy: Floats
    likeliest: NDArray[np.int64]
    probability: Floats
    initial_logp: Floats | None = None
    initial_entropy: Floats | None = None
    kl: Floats | None = None


def measure(policy: Policy, batch: Batch, initial: Policy | None = None, part: int = PART) -> Measured:
    """Scores the batch by the policy and, where it is given, the initial one beside it, whose logits are never kept."""
    done = [_part(policy, one, initial) for one in batch.split(part)]
    if not done:
        done = [_joined([], initial is not None)]
    columns = ([getattr(one, f.name) for one in done] for f in fields(Measured))
    values: list[Any] = [None if parts[0] is None else np.concatenate(parts) for parts in columns]
    return Measured(*values)


def entropies(policy: Policy, batch: Batch, part: int = PART) -> Floats:
    """The entropy of each token alone."""
    with torch.no_grad():
        found = [policy(one).entropy.cpu() for one in batch.split(part)]
    return torch.cat(found).numpy() if found else np.zeros(0, np.float32)


def _part(policy: Policy, batch: Batch, initial: Policy | None) -> Measured:
    rows = policy.distributions(batch, CHUNK)
    others = initial.distributions(batch, CHUNK) if initial is not None else None
    places = iter(batch.tokens.split(CHUNK))
    done = []
    for logits in rows:
        other = None if others is None else next(others).to(logits.device)
        done.append(_chunk(logits, next(places).to(logits.device), other))
    return _joined(done, initial is not None)


def _chunk(logits: Tensor, tokens: Tensor, other: Tensor | None) -> list[Tensor]:
    """The values of some places from their logits (n, v), which are used up; one exponential for each policy."""
    here = _Spread.of(logits)
    best, ids = likeliest(here.mass, min(TOP, logits.shape[-1]))
    values = [here.logp(tokens), here.entropy(), ids, best / here.total[:, None]]
    if other is not None:
        there = _Spread.of(other)
        values += [there.logp(tokens), there.entropy()]
        gap = here.mean(here.scores.sub_(there.scores)) - here.total.log() + there.total.log()
        values.append(gap.clamp_(min=0.0))
    return values


def likeliest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row (n, v) and where they are, as `topk`, whose time is that of many passes.

    They lie in the `count` blocks whose own largest are the largest: those alone are ranked.
    """
    if values.shape[-1] % BLOCK or values.shape[-1] < count * BLOCK:
        return values.topk(count, dim=-1)
    blocks = values.unflatten(-1, (-1, BLOCK))
    chosen = blocks.amax(-1).topk(count, dim=-1).indices
    best, place = blocks.gather(1, chosen[..., None].expand(-1, -1, BLOCK)).flatten(1).topk(count, dim=-1)
    return best, chosen.gather(1, place // BLOCK) * BLOCK + place % BLOCK


@dataclass(frozen=True, slots=True)
class _Spread:
    """Distributions: `scores` (n, v), the largest of each row 0, `mass` = exp(scores), and its `total` (n).

    Impossible tokens get FAR, which adds nothing to a sum weighted by p.
    """

    scores: Tensor
    mass: Tensor
    total: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> _Spread:
        """Shifts the logits in place."""
        scores = logits.sub_(logits.amax(-1, keepdim=True)).clamp_(min=FAR)
        mass = scores.exp()
        return cls(scores, mass, mass.sum(-1))

    def mean(self, values: Tensor) -> Tensor:
        means: Tensor = torch.linalg.vecdot(self.mass, values) / self.total
        return means

    def entropy(self) -> Tensor:
        return (self.total.log() - self.mean(self.scores)).clamp_(min=0.0)

    def logp(self, tokens: Tensor) -> Tensor:
        return self.scores.gather(-1, tokens[:, None])[:, 0] - self.total.log()


def _joined(chunks: list[list[Tensor]], both: bool) -> Measured:
    if not chunks:
        none = np.zeros(0, np.float32)
        wide = none.reshape(0, TOP)
        return Measured(none, none, wide.astype(np.int64), wide, *((none, none, none) if both else ()))
    return Measured(*(torch.cat(list(column)).cpu().numpy() for column in zip(*chunks, strict=True)))
