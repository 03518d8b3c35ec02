"""Which target a gradient is that of, without being told: a reward and one divergence, each with a factor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch

from klimb.objectives.base import Objective
from klimb.proving.expected import expected_gradient
from klimb.proving.policy import Parameters
from klimb.proving.targets import Divergence, Target, exact_gradient
from klimb.proving.worlds import World

SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Match:
    """The nearest target, and how far the gradient is from that target's; it `fits` within 1e-9."""

    target: Target
    residual: float

    @property
    def fits(self) -> bool:
        """Whether the gradient is this target's."""
        return self.residual <= SAME

    @property
    def name(self) -> str:
        """The target, or that there is none."""
        return self.target.name if self.fits else "no target"


def candidates(world: World) -> Iterator[Target]:
    """The reward, and the reward with each divergence; those per token only where answers have several."""
    yield Target()
    scopes = (False, True) if world.longest > 1 else (False,)
    sides: tuple[Divergence, ...] = ("forward", "reverse", "Jeffreys")
    references: tuple[Literal["ref", "old"], ...] = ("ref", "old")
    for per_token, side, reference in product(scopes, sides, references):
        yield Target(side, reference, 1.0, per_token)


def compare(objective: Objective, world: World) -> Match:
    """Which target's gradient the objective has in this world."""
    return match(expected_gradient(objective, world), world)


def match(gradient: Parameters, world: World) -> Match:
    """The simplest target within 1e-9 of `gradient`, else the nearest one."""
    tried = [_fit(gradient, target, world) for target in candidates(world)]
    simple = [m for m in tried if m.fits]
    if simple:
        return min(simple, key=lambda m: (m.target.reward != 0) + (m.target.beta != 0 and bool(m.target.divergence)))
    return min(tried, key=lambda m: m.residual)


def _fit(gradient: Parameters, target: Target, world: World) -> Match:
    """The target with the factors that bring it nearest to `gradient`."""
    parts = [Target(), replace(target, reward=0.0)] if target.divergence else [Target()]
    columns = torch.stack([exact_gradient(part, world).flatten() for part in parts], 1)
    there = columns.norm(dim=0) > SAME
    factors = torch.zeros(len(parts), dtype=torch.float64)
    factors[there] = torch.linalg.lstsq(columns[:, there], gradient.flatten().unsqueeze(1)).solution.squeeze(1)
    factors = torch.where(factors.abs() > SAME, factors, torch.zeros_like(factors))
    residual = float((columns @ factors - gradient.flatten()).norm())
    beta = float(factors[1]) if target.divergence else 0.0
    return Match(replace(target, reward=float(factors[0]), beta=beta), residual)
