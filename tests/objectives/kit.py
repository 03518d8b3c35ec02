"""What the tests of objectives use of the public kit, and what only they need."""

from __future__ import annotations

import torch

from klimb.batch import Batch
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
from klimb.proving import catalog
from klimb.proving.catalog import CLIPS, FORMS, PENALTIES, REWARD, changed
from klimb.proving.laws import without_divergence
from klimb.proving.policy import Enumerable
from klimb.proving.samples import moved, outputs, ready, reordered, update
from klimb.proving.samples import sample_batch as batch

__all__ = [
    "CLIPS",
    "EVERY",
    "FORMS",
    "PENALTIES",
    "QUICK",
    "REWARD",
    "Enumerable",
    "batch",
    "changed",
    "moved",
    "named",
    "outputs",
    "parts_of",
    "ready",
    "reordered",
    "update",
    "without_clip",
    "without_divergence",
]
EVERY = tuple(objective for objective in catalog.EVERY if not objective.critic)
"""Those whose loss is of log-probs alone; the one with a critic has its laws in `test_ppo`, with values."""

QUICK = (
    Reinforce(level="sequence", baseline="moving"),
    changed(Reinforce(level="sequence", beta=0.1), kl=PENALTIES[5]),
    GRPO(beta=0.1, kl=REWARD),
    RLOO(beta=0.1),
    PPO(whiten=False, lam=1.0),
    PPO(whiten=False, lam=0.5, gamma=0.9),
    DrGRPO(length=7, beta=0.1),
    DAPO(length=5, buffer=3),
    GSPO(eps_low=0.1, eps_high=0.1),
    GSPOToken(beta=0.1, kl=REWARD, eps_low=0.1, eps_high=0.1),
    CISPO(cap=1.5),
    ReinforcePP(beta=0.1),
    ReinforcePPBaseline(beta=0.1),
    changed(RPG(), divergence="jeffreys"),
    TOPR(),
)
"""One or two of each kind; the others of the catalog are proved in the slow tests."""


def named(objective: Objective) -> str:
    """The settings that are not the default, for a test's name."""
    chosen = objective.model_dump(exclude_defaults=True).values()
    return "-".join([type(objective).__name__, *map(str, chosen)])


def without_clip(objective: Objective) -> Objective:
    """The same objective with bounds that nothing reaches."""
    wide = {"eps_low": 1.0, "eps_high": 1e9, "cap": 1e9, "c": 1e9}
    return changed(objective, **{name: wide[name] for name in wide if name in type(objective).model_fields})


def parts_of(whole: Batch, cuts: list[int]) -> list[torch.Tensor]:
    """Row indices of each part, cut by a label per row."""
    labels = torch.tensor([cuts[row % len(cuts)] for row in range(whole.rows)])
    return [torch.nonzero(labels == label).flatten() for label in sorted(set(labels.tolist()))]
