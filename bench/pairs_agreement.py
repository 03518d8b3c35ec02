"""Whether two sides made the same first step: their losses, log-probs and gradients, parameter by parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

ENOUGH = 1e-4
"""The largest relative difference that counts as agreement, in float32."""


def write_gradient(folder: Path, name: str, gradient: torch.Tensor) -> None:
    """Puts one parameter's gradient into a file, as float32, with no copy in memory where it is float32 already."""
    folder.mkdir(parents=True, exist_ok=True)
    gradient.detach().float().contiguous().numpy().tofile(folder / name)


def compared(one: Path, other: Path) -> dict[str, Any]:
    """The relative difference of two gradients as wholes, and that of the parameter where it is largest.

    A parameter whose gradient is less than a millionth of the whole is rounding on both sides and is not compared
    alone. Stops where the parameters' names differ.
    """
    names = sorted(path.name for path in one.iterdir())
    others = sorted(path.name for path in other.iterdir() if path.name != "critic.bias")
    if names != others:
        raise SystemExit(f"the two sides' parameters differ: {sorted(set(names) ^ set(others))[:6]}")
    gaps: dict[str, float] = {}
    norms: dict[str, float] = {}
    for name in names:
        first, second = (np.fromfile(folder / name, np.float32).astype(np.float64) for folder in (one, other))
        gaps[name], norms[name] = float(np.linalg.norm(first - second)), float(np.linalg.norm(first))
    whole = float(np.linalg.norm(list(norms.values())))
    alone = {name: gaps[name] / norms[name] for name in names if norms[name] > 1e-6 * whole}
    worst = max(alone, key=lambda name: alone[name])
    return {
        "parameters": len(alone),
        "gradient": float(np.linalg.norm(list(gaps.values()))) / whole,
        "gradient_worst": alone[worst],
        "gradient_worst_of": worst,
        "grad_norm": whole,
    }


def relative(one: float, other: float) -> float:
    """How far two numbers are apart, as a share of the first."""
    return abs(one - other) / abs(one)
