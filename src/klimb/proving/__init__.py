"""Gradients that are proved: exact ones by summing over every answer, beside the expected ones of any loss.

Submodules load when first used, so that the command line needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klimb.proving import laws
    from klimb.proving.expected import expected_gradient
    from klimb.proving.match import compare
    from klimb.proving.plain import compare_loss, loss_gradient
    from klimb.proving.policy import Enumerable
    from klimb.proving.table import Row, prove, prove_all
    from klimb.proving.targets import Target, exact_gradient
    from klimb.proving.worlds import World, world

_HOMES = {
    "Enumerable": "policy",
    "Row": "table",
    "Target": "targets",
    "World": "worlds",
    "compare": "match",
    "compare_loss": "plain",
    "exact_gradient": "targets",
    "expected_gradient": "expected",
    "loss_gradient": "plain",
    "prove": "table",
    "prove_all": "table",
    "world": "worlds",
}

__all__ = [
    "Enumerable",
    "Row",
    "Target",
    "World",
    "compare",
    "compare_loss",
    "exact_gradient",
    "expected_gradient",
    "laws",
    "loss_gradient",
    "prove",
    "prove_all",
    "world",
]


def __getattr__(name: str) -> Any:
    if name == "laws":
        return importlib.import_module("klimb.proving.laws")
    if name in _HOMES:
        return getattr(importlib.import_module(f"klimb.proving.{_HOMES[name]}"), name)
    raise AttributeError(f"klimb.proving has no {name!r}")
