"""Importance weights where a source has nothing to weigh: one fault of several sources."""

from __future__ import annotations

from klimb.errors import KlimbError


def weighed(found: str, cure: str = "training.correction.type=none") -> KlimbError:
    """That a recipe corrects for the sampler where it cannot: what stands there, and what to do about it."""
    return KlimbError("correct for the sampler by importance weights (training.correction)", found, cure)
