"""Which objectives are proved by `klimb prove --all`, with which settings; and in which worlds."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

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
from klimb.proving.policy import Enumerable
from klimb.proving.worlds import World, world

NEAR, FAR = 2e-5, 0.5
"""How far the current policy is from the one that sampled: within every clip, and beyond all of them."""

Kind = TypeVar("Kind", bound=Objective)


def changed(objective: Kind, **settings: object) -> Kind:
    """The same objective with other settings, checked again."""
    return type(objective).model_validate(objective.model_dump() | settings)


FORMS: tuple[RPG, ...] = tuple(
    changed(RPG(), divergence=divergence, form=form)
    for divergence in ("fkl", "rkl", "ufkl", "urkl")
    for form in ("differentiable", "reinforce")
)
"""The eight losses of RPG."""

EVERY: tuple[Objective, ...] = (
    *(changed(Reinforce(), baseline=baseline) for baseline in ("none", "batch", "group", "leave_one_out")),
    Reinforce(level="sequence"),
    GRPO(),
    GRPO(beta=0.1, eps_high=0.28),
    RLOO(),
    DrGRPO(length=7),
    DAPO(),
    DAPO(length=5, buffer=3),
    GSPO(eps_low=0.1, eps_high=0.1),
    CISPO(cap=1.5),
    ReinforcePP(),
    ReinforcePPBaseline(beta=0.1),
    *FORMS,
    *(changed(form, reference="initial", beta=0.05) for form in FORMS),
    *(changed(form, level="sequence", clip="none", beta=0.5) for form in FORMS),
)
"""Every objective, with every setting that changes what its gradient is."""


@lru_cache(maxsize=8)
def worlds(drift: float) -> tuple[World, ...]:
    """Answers of one token, answers of one or two under the objective's own advantages, and of one to three alone."""
    return (
        world("one token", Enumerable(words=3, length=1, prompts=2), drift),
        world("answers", Enumerable(words=2, length=2, prompts=2), drift),
        world("surrogate", Enumerable(words=3, length=3), drift, given=True),
    )
