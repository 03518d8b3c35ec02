"""klimb: reinforcement-learning post-training for language models, with gradients that are proved."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klimb.measure import measure
    from klimb.policy.loading import load
    from klimb.policy.pull import pull
    from klimb.recipe import Recipe
    from klimb.run import RunResult, train

__version__ = "0.1.0"
__all__ = ["Recipe", "RunResult", "load", "measure", "pull", "train"]

_PLACES = {
    "Recipe": "klimb.recipe",
    "RunResult": "klimb.run",
    "load": "klimb.policy.loading",
    "measure": "klimb.measure",
    "pull": "klimb.policy.pull",
    "train": "klimb.run",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used, so that `import klimb` is quick."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"klimb has no {name!r}")
