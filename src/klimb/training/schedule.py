"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from klimb.training.base import Optimizer


def learning_rate(settings: Optimizer, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 1) of `steps`: linear warm-up, then the schedule."""
    if step <= settings.warmup:
        return settings.lr * step / settings.warmup
    done = (step - settings.warmup) / max(1, steps - settings.warmup + 1)
    match settings.schedule:
        case "linear":
            return settings.lr * (1.0 - done)
        case "cosine":
            return settings.lr * 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.lr
