"""The proof of an objective: a row for each world, its bias against what it states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from klimb.config import dump
from klimb.objectives.base import Objective
from klimb.proving.catalog import FAR, NEAR, worlds
from klimb.proving.claims import UNBIASED, claim
from klimb.proving.expected import expected_gradient
from klimb.proving.makeup import Makeup, makeup
from klimb.proving.match import SAME, Match, distance, matches
from klimb.proving.predicted import predicted
from klimb.proving.targets import exact_gradient
from klimb.proving.worlds import World


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target with its best factors, and the bias against it, as in `klimb.proving.match.Match`."""

    target: str
    bias: float
    cosine: float
    largest: float
    fits: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One proof. `chosen`: the settings that are not the default, by dotted path.

    `bias` is the norm of expected - exact gradient of `target`, `largest` its largest coordinate, `cosine` that of the
    angle between the two (zero where one of them vanishes). `residual` is how far the gradient is from what `stated`
    implies, computed apart. It `holds` where the residual is at most 1e-9 and the bias is there exactly where it is
    stated. `candidates`: every target there is, the nearest first. Where nothing is stated and no target fits, the
    bias is that against the nearest; what a row has not is None.
    """

    objective: str
    settings: dict[str, Any]
    chosen: dict[str, Any]
    world: str
    policy: str
    target: str
    stated: str
    bias: float | None
    cosine: float | None
    largest: float | None
    residual: float | None
    holds: bool
    candidates: tuple[Candidate, ...] = ()

    @property
    def found(self) -> str:
        """The target whose gradient it is, whatever is stated, or that there is none."""
        return next((one.target for one in self.candidates if one.fits), "no target")


def candidates_of(found: Iterable[Match]) -> tuple[Candidate, ...]:
    """The same, named."""
    return tuple(Candidate(m.target.name, m.bias, m.cosine, m.largest, m.fits) for m in found)


def chosen(objective: Objective) -> dict[str, Any]:
    """The settings that are not the default, by dotted path; one without a default is among them."""
    return _apart(dump(objective), dump(type(objective).model_construct()))


def _apart(settings: Mapping[str, Any], usual: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and name in usual:
            found |= _apart(value, usual[name], f"{path}{name}.")
        elif name not in usual or value != usual[name]:
            found[f"{path}{name}"] = value
    return found


def prove(objective: Objective, off_policy: bool = False) -> list[Row]:
    """The rows of `objective` on-policy, or off-policy: within its clip (where it has one) and far beyond it.

    Raises KlimbError where nothing is stated for an objective of this kind.
    """
    stated = makeup(objective)
    return [proved(objective, stated, world, policy) for policy, world in places(stated, off_policy)]


def places(stated: Makeup, off_policy: bool) -> list[tuple[str, World]]:
    """Where it is proved: how far the policy has moved, and in which world."""
    near = [] if _unbounded(stated) else [("near", NEAR)]
    drifts = [*near, ("far", FAR)] if off_policy else [("on", 0.0)]
    return [(policy, world) for policy, drift in drifts for world in worlds(drift)]


def prove_all(objectives: Iterable[Objective]) -> Iterable[Row]:
    """On- and off-policy rows of each."""
    for objective in objectives:
        yield from prove(objective)
        yield from prove(objective, off_policy=True)


def _unbounded(stated: Makeup) -> bool:
    return stated.clip == Makeup("none", "row").clip and stated.cap == float("inf")


def proved(objective: Objective, stated: Makeup, world: World, policy: str) -> Row:
    """The row of one world, `stated` being what the objective says that it is."""
    implied = predicted(stated, world)
    claimed = claim(stated, world, implied.outside)
    found = expected_gradient(objective, world)
    bias, cosine, largest = distance(found, exact_gradient(claimed.target, world))
    residual = float((found - implied.gradient).norm())
    if claimed.climbs is not None:
        residual = max(residual, float((found - exact_gradient(claimed.climbs, world)).norm()))
    right = (bias <= SAME) is (claimed.stated == UNBIASED)
    return Row(
        objective=str(getattr(objective, "type", type(objective).__name__)),
        settings={name: value for name, value in dump(objective).items() if name != "type"},
        chosen=chosen(objective),
        world=world.name,
        policy=policy,
        target=claimed.target.name,
        stated=claimed.stated,
        bias=bias,
        cosine=cosine,
        largest=largest,
        residual=residual,
        holds=right and residual <= SAME,
        candidates=candidates_of(matches(found, world)),
    )
