"""What an objective is made of, in words: which baseline, weights, ratio, clip and divergence it says it has.

Objectives do not know this page; a makeup is the statement that is tested against what they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from klimb.errors import KlimbError
from klimb.objectives import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    RLOO,
    RPG,
    DrGRPO,
    Objective,
    Reinforce,
    ReinforcePP,
    ReinforcePPBaseline,
)

Baseline = Literal["none", "batch", "group", "others", "group z", "batch white", "group white"]
WIDE = (math.inf, math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Pull:
    """A divergence to `reference` with weight `beta`.

    `kind`: k1, k2, k3 = that estimator of KL(pi||reference) as a loss, token by token, not weighted by pi / old;
    fkl, rkl, ufkl, urkl = RPG's, weighted, at the level of the ratio; `inside` the clip or beside it.
    """

    kind: Literal["k1", "k2", "k3", "fkl", "rkl", "ufkl", "urkl"]
    beta: float
    reference: Literal["old", "ref"] = "ref"
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Makeup:
    """What one objective says that it is, with its settings."""

    baseline: Baseline
    weights: Literal["token", "row"] | int
    """Every token the same, every row the same, or one over rows times this number."""
    level: Literal["token", "sequence", "mean"] = "token"
    """The ratio: of a token, of the whole answer, or the geometric mean of an answer's tokens."""
    clip: tuple[float, float, float] = WIDE
    """How far below and above one a ratio may go, and the largest where A < 0."""
    cap: float = math.inf
    """The largest weight; the gradient stays."""
    pull: Pull | None = None
    punish: tuple[int, int, float] = (1, 0, 0.0)
    """DAPO's overlong punishment: from which length minus which buffer, and how much."""


def _reinforce(o: Reinforce) -> Makeup:
    baseline: Baseline = "others" if o.baseline == "leave_one_out" else o.baseline
    return Makeup(baseline, "row" if o.level == "sequence" else "token", o.level)


def _rpg(o: RPG) -> Makeup:
    reference: Literal["old", "ref"] = "ref" if o.reference == "initial" else "old"
    pull = Pull(o.divergence, o.beta, reference, o.form == "reinforce")
    return Makeup("group", "row" if o.level == "sequence" else "token", o.level, o.bounds, pull=pull)


def _clipped(o: Any) -> tuple[float, float, float]:
    return (o.eps_low, o.eps_high, math.inf)


MAKEUPS: Mapping[type[Objective], Callable[[Any], Makeup]] = {
    Reinforce: _reinforce,
    RLOO: lambda o: Makeup("others", "row", "sequence"),
    GRPO: lambda o: Makeup("group z", "row", clip=_clipped(o), pull=Pull("k3", o.beta)),
    DrGRPO: lambda o: Makeup("group", o.length, clip=_clipped(o)),
    DAPO: lambda o: Makeup("group z", "token", clip=_clipped(o), punish=(o.length, o.buffer, o.penalty)),
    GSPO: lambda o: Makeup("group z", "row", "mean", clip=_clipped(o)),
    CISPO: lambda o: Makeup("group z", "token", cap=o.cap),
    ReinforcePP: lambda o: Makeup("batch white", "token", clip=_clipped(o)),
    ReinforcePPBaseline: lambda o: Makeup("group white", "token", clip=_clipped(o), pull=Pull("k2", o.beta)),
    RPG: _rpg,
}


def makeup(objective: Objective) -> Makeup:
    """What `objective` says that it is. Raises KlimbError where nothing is stated for its kind."""
    stated = MAKEUPS.get(type(objective))
    if stated is None:
        raise KlimbError(
            f"prove {type(objective).__name__} against what it states",
            "no makeup of it in klimb.proving.makeup.MAKEUPS",
            "`klimb.proving.compare`, which finds what its gradient is without a statement",
        )
    return stated(objective)
