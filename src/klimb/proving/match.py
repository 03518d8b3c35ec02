"""Which target a gradient is that of, without being told: a reward and one divergence, each with a factor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Literal

import torch

from klimb.errors import KlimbError
from klimb.objectives.base import Objective
from klimb.proving.expected import expected_gradient
from klimb.proving.policy import Parameters
from klimb.proving.targets import Divergence, Target, exact_gradient
from klimb.proving.worlds import World

SAME = 1e-9
"""Two gradients in float64 that differ by no more than this are the same."""


@dataclass(frozen=True, slots=True)
class Match:
    """A target, with the factors that bring it nearest to a gradient; it `fits` where its bias is at most 1e-9.

    `bias` is the norm of gradient - exact gradient of `target`, `largest` its largest coordinate, `cosine` that of the
    angle between the two (zero where one of them vanishes).
    """

    target: Target
    bias: float
    cosine: float
    largest: float

    @property
    def fits(self) -> bool:
        """Whether the gradient is this target's."""
        return self.bias <= SAME

    @property
    def name(self) -> str:
        """The target, or that there is none."""
        return self.target.name if self.fits else "no target"


def distance(found: Parameters, exact: Parameters) -> tuple[float, float, float]:
    """(norm, cosine, largest coordinate) of `found` against `exact`."""
    gap, sizes = found - exact, float(found.norm() * exact.norm())
    cosine = float((found * exact).sum()) / sizes if sizes > SAME**2 else 0.0
    return float(gap.norm()), cosine, float(gap.abs().max())


def candidates(world: World) -> Iterator[Target]:
    """The reward, and the reward with each divergence; those per token only where answers have several.

    A frozen KL is there off-policy alone: on-policy its gradient is the reverse one's.
    """
    yield Target()
    scopes = (False, True) if world.longest > 1 else (False,)
    sides: tuple[Divergence, ...] = ("forward", "reverse", "Jeffreys")
    references: tuple[Literal["ref", "old"], ...] = ("ref", "old")
    for per_token, side, reference in product(scopes, sides, references):
        yield Target(side, reference, 1.0, per_token)
    if world.off_policy:
        yield Target("frozen")


def compare(objective: Objective, world: World) -> Match:
    """Which target's gradient the objective has in this world."""
    return match(expected_gradient(objective, world), world)


def match(gradient: Parameters, world: World) -> Match:
    """The simplest target within 1e-9 of `gradient`, else the nearest one."""
    return matches(gradient, world)[0]


def matches(gradient: Parameters, world: World) -> list[Match]:
    """Every candidate with its best factors, those that fit first, the simplest of them before the others.

    One whose divergence is of no use, so that its best factor is zero, is the reward alone and is left out.
    Raises KlimbError for a gradient that is not finite.
    """
    if not bool(torch.isfinite(gradient).all()):
        cure = "a loss whose gradient is finite"
        raise KlimbError("compare a gradient with every target", f"one that is not finite ({world.name})", cure)
    tried = [_fit(gradient, target, world) for target in candidates(world)]
    apart = [m for m in tried if not m.target.divergence or m.target.beta != 0]
    return sorted(apart, key=lambda m: (not m.fits, _terms(m.target) if m.fits else m.bias))


def _terms(target: Target) -> int:
    return (target.reward != 0) + (target.beta != 0 and bool(target.divergence))


@lru_cache(maxsize=256)
def _unit(target: Target, world: World) -> Parameters:
    """The exact gradient of one term; a gradient is the sum of its terms'."""
    return exact_gradient(target, world)


def _fit(gradient: Parameters, target: Target, world: World) -> Match:
    """The target with the factors that bring it nearest to `gradient`."""
    parts = [Target(), replace(target, reward=0.0)] if target.divergence else [Target()]
    columns = torch.stack([_unit(part, world).flatten() for part in parts], 1)
    there = columns.norm(dim=0) > SAME
    factors = torch.zeros(len(parts), dtype=torch.float64)
    factors[there] = torch.linalg.lstsq(columns[:, there], gradient.flatten().unsqueeze(1)).solution.squeeze(1)
    factors = torch.where(factors.abs() > SAME, factors, torch.zeros_like(factors))
    beta = float(factors[1]) if target.divergence else 0.0
    nearest = (columns @ factors).view_as(gradient)
    return Match(replace(target, reward=float(factors[0]), beta=beta), *distance(gradient, nearest))
