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
    PPO,
    RLOO,
    RPG,
    TOPR,
    DrGRPO,
    GSPOToken,
    Objective,
    Reinforce,
    ReinforcePP,
    ReinforcePPBaseline,
)
from klimb.objectives.penalty import Penalised

Baseline = Literal[
    "none", "batch", "moving", "group", "others", "group z", "batch white", "group white", "critic", "critic white"
]
Kind = Literal["k1", "k2", "k3", "fkl", "rkl", "ufkl", "urkl", "jeffreys"]
Place = Literal["loss", "clip", "answer", "to go"]
WIDE = (math.inf, math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Pull:
    """A divergence to `reference` with weight `beta`.

    `kind`: k1, k2, k3 = that estimator of KL(pi||reference), `weighted` by w = pi / old; fkl, rkl, ufkl, urkl, jeffreys
    = RPG's, which have their weight, at the level of the ratio.
    """

    kind: Kind
    beta: float
    reference: Literal["old", "ref"] = "ref"
    place: Place = "loss"
    """Beside the clip, inside it, off the reward of the whole answer, or off that of each token from itself on."""
    weighted: Literal["none", "attached", "detached"] = "none"

    @property
    def rewarded(self) -> bool:
        """Whether it is off the reward."""
        return self.place in ("answer", "to go")


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
    by_advantage: bool = False
    """Whether the clip asks for the sign of A alone, also where a divergence is inside it."""
    bounds: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Within what a weight is held where A >= 0, and where A < 0."""
    discount: tuple[float, float] = (1.0, 1.0)
    """With a critic: gamma and lambda."""


def _penalty(o: Penalised, reward: Place = "answer") -> Pull:
    """The KL of an objective; `reward` is how it is taken where it is off the reward."""
    return Pull(o.kl.estimator, o.beta, "ref", "loss" if o.kl.where == "loss" else reward, o.kl.weighted)


def _reinforce(o: Reinforce) -> Makeup:
    baseline: Baseline = "others" if o.baseline == "leave_one_out" else o.baseline
    return Makeup(baseline, "row" if o.level == "sequence" else "token", o.level, pull=_penalty(o))


def _rpg(o: RPG) -> Makeup:
    pull = Pull(o.divergence, o.beta, "old" if o.reference == "old" else "ref", "clip" if o.inside else "loss")
    bounds = (o.eps_low, o.eps_high, o.c) if o.clip in ("rpg", "dual") else WIDE
    cap = o.cap if o.clip == "cispo" else math.inf
    weights: Literal["token", "row"] = "row" if o.level == "sequence" else "token"
    return Makeup("group", weights, o.level, bounds, cap, pull, by_advantage=o.clip == "dual")


def _ppo(o: PPO) -> Makeup:
    baseline: Baseline = "critic white" if o.whiten else "critic"
    return Makeup(baseline, "token", clip=_clipped(o), pull=_penalty(o, "to go"), discount=(o.gamma, o.lam))


def _topr(o: TOPR) -> Makeup:
    weights: Literal["token", "row"] = "row" if o.level == "sequence" else "token"
    return Makeup("group", weights, o.level, pull=_penalty(o), bounds=(o.good, o.bad))


def _clipped(o: Any) -> tuple[float, float, float]:
    return (o.eps_low, o.eps_high, math.inf)


MAKEUPS: Mapping[type[Objective], Callable[[Any], Makeup]] = {
    Reinforce: _reinforce,
    RLOO: lambda o: Makeup("others", "row", "sequence", pull=_penalty(o)),
    PPO: _ppo,
    GRPO: lambda o: Makeup("group z", "row", clip=_clipped(o), pull=_penalty(o)),
    DrGRPO: lambda o: Makeup("group", o.length, clip=_clipped(o), pull=_penalty(o)),
    DAPO: lambda o: Makeup(
        "group z", "token", clip=_clipped(o), pull=_penalty(o), punish=(o.length, o.buffer, o.penalty)
    ),
    GSPO: lambda o: Makeup("group z", "row", "mean", clip=_clipped(o), pull=_penalty(o)),
    GSPOToken: lambda o: Makeup("group z", "row", "mean", clip=_clipped(o), pull=_penalty(o, "to go")),
    CISPO: lambda o: Makeup("group z", "token", cap=o.cap, pull=_penalty(o)),
    ReinforcePP: lambda o: Makeup("batch white", "token", clip=_clipped(o), pull=_penalty(o, "to go")),
    ReinforcePPBaseline: lambda o: Makeup("group white", "token", clip=_clipped(o), pull=_penalty(o, "to go")),
    RPG: _rpg,
    TOPR: _topr,
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
