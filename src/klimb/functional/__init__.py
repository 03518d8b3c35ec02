"""Every formula once, as a pure function of tensors. Submodules load when first used, so settings need no torch."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klimb.functional import (
        advantage,
        clip,
        divergence,
        entropy,
        importance,
        logprobs,
        moving,
        offpolicy,
        preference,
        segments,
        selection,
        value,
        weighting,
    )

__all__ = [
    "advantage",
    "clip",
    "divergence",
    "entropy",
    "importance",
    "logprobs",
    "moving",
    "offpolicy",
    "preference",
    "segments",
    "selection",
    "value",
    "weighting",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"klimb.functional.{name}")
    raise AttributeError(f"klimb.functional has no {name!r}")
