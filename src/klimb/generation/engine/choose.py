"""Which engine a model gets."""

from __future__ import annotations

from typing import Any

import torch

from klimb.generation.engine.base import Engine
from klimb.generation.engine.plain import Plain


def choose(model: Any, dtype: torch.dtype, wanted: str) -> Engine:
    """The engine that is wanted, or the best that fits the model."""
    return Plain(model, dtype)
