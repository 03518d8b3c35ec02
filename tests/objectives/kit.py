"""What tests of objectives share, over the public test kit of `klimb.proving`."""

from __future__ import annotations

from klimb.objectives import RPG, Objective
from klimb.proving.catalog import EVERY, FORMS, changed
from klimb.proving.laws import without_divergence
from klimb.proving.policy import Enumerable
from klimb.proving.samples import moved, outputs, ready, reordered, update
from klimb.proving.samples import sample_batch as batch

__all__ = [
    "EVERY",
    "FORMS",
    "Enumerable",
    "batch",
    "changed",
    "moved",
    "named",
    "outputs",
    "ready",
    "reordered",
    "update",
    "without_clip",
    "without_divergence",
]


def named(objective: Objective) -> str:
    """The settings that are not the default, for a test's name."""
    chosen = objective.model_dump(exclude_defaults=True).values()
    return "-".join([type(objective).__name__, *map(str, chosen)])


def without_clip(objective: Objective) -> Objective:
    """The same objective with bounds that nothing reaches."""
    if isinstance(objective, RPG):
        return changed(objective, clip="none")
    wide = {"eps_low": 1.0, "eps_high": 1e9, "cap": 1e9}
    return changed(objective, **{name: wide[name] for name in wide if name in type(objective).model_fields})
