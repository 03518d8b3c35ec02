"""Which objectives are proved by `klimb prove --all`, with which settings; and in which worlds."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

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
from klimb.objectives.penalty import KL
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
    for divergence in ("fkl", "rkl", "ufkl", "urkl", "jeffreys")
    for form in ("differentiable", "reinforce")
)
"""The ten losses of RPG."""
CLIPS: tuple[tuple[str, str, str], ...] = tuple(
    (form, clip, kl)
    for form in ("differentiable", "reinforce")
    for clip in ("rpg", "dual", "cispo")
    for kl in ("inside", "outside")
    if (form, clip, kl) != ("differentiable", "cispo", "inside")
)
"""What an RPG loss may be made of, where it has a clip."""
REWARD = KL(where="reward", estimator="k1")
WAYS = {"loss": ("none", "attached", "detached"), "reward": ("none",)}
PENALTIES: tuple[dict[str, str], ...] = tuple(
    {"where": where, "estimator": estimator, "weighted": weighted}
    for where, weights in WAYS.items()
    for weighted in weights
    for estimator in ("k1", "k2", "k3")
)
"""Every way in which a KL may enter."""

PLAIN: tuple[Objective, ...] = (
    *(changed(Reinforce(), baseline=baseline) for baseline in ("none", "batch", "moving", "group", "leave_one_out")),
    Reinforce(level="sequence"),
    Reinforce(level="sequence", baseline="moving"),
    GRPO(),
    GRPO(beta=0.1, eps_high=0.28),
    RLOO(),
    PPO(),
    PPO(whiten=False, lam=1.0),
    PPO(whiten=False, lam=0.5, gamma=0.9),
    DrGRPO(length=7),
    DAPO(),
    DAPO(length=5, buffer=3),
    GSPO(eps_low=0.1, eps_high=0.1),
    GSPOToken(eps_low=0.1, eps_high=0.1),
    CISPO(cap=1.5),
    ReinforcePP(),
    ReinforcePPBaseline(beta=0.1),
    TOPR(),
    TOPR(level="token", good=(0.5, 2.0)),
    TOPR(good=(0.0, 1e9), bad=(0.0, 1e9)),
)
"""Each method, with the settings that change what its gradient is."""
HELD: tuple[Objective, ...] = (
    RLOO(beta=0.1),
    PPO(beta=0.1, whiten=False, lam=1.0),
    PPO(beta=0.1, lam=0.5, gamma=0.9),
    ReinforcePP(beta=0.1),
    GSPOToken(beta=0.1, kl=REWARD, eps_low=0.1, eps_high=0.1),
    GSPOToken(beta=0.1, eps_low=0.1, eps_high=0.1),
    DAPO(beta=0.1, kl=REWARD),
    ReinforcePPBaseline(beta=0.1, kl=REWARD),
    DrGRPO(length=7, beta=0.1),
    CISPO(cap=1.5, beta=0.1),
    TOPR(beta=0.1),
    TOPR(beta=0.1, kl=REWARD),
    GSPO(eps_low=0.1, eps_high=0.1, beta=0.1),
    *(changed(Reinforce(level="sequence", beta=0.1), kl=kl) for kl in PENALTIES),
    *(changed(GRPO(beta=0.1), kl=kl) for kl in PENALTIES),
)
"""Each method with a KL, and every way in which one may enter."""
EVERY: tuple[Objective, ...] = (
    *PLAIN,
    *HELD,
    *(
        changed(FORMS[i % len(FORMS)], form=form, clip=clip, kl=kl, cap=1.5, beta=0.3, reference="initial")
        for i, (form, clip, kl) in enumerate(CLIPS)
    ),
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
