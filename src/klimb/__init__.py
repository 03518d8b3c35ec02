"""klimb: reinforcement-learning post-training for language models, with gradients that are proved."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klimb.examine import measure
    from klimb.policy.loading import load as load_policy
    from klimb.policy.pull import pull
    from klimb.recipe import Recipe, load_recipe
    from klimb.reranking import best_of
    from klimb.run import RunResult, train

__version__ = "0.1.0"
__all__ = ["Recipe", "RunResult", "best_of", "load_policy", "load_recipe", "measure", "pull", "train"]

_PLACES = {
    "Recipe": ("klimb.recipe", "Recipe"),
    "RunResult": ("klimb.run", "RunResult"),
    "best_of": ("klimb.reranking", "best_of"),
    "load_policy": ("klimb.policy.loading", "load"),
    "load_recipe": ("klimb.recipe", "load_recipe"),
    "measure": ("klimb.examine", "measure"),
    "pull": ("klimb.policy.pull", "pull"),
    "train": ("klimb.run", "train"),
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used, so that `import klimb` is quick."""
    if name in _PLACES:
        module, inner = _PLACES[name]
        return getattr(importlib.import_module(module), inner)
    raise AttributeError(f"klimb has no {name!r}")
