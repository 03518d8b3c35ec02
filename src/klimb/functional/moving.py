"""Numbers that a run carries from step to step, each as a pure function of what it was. Plain floats, no tensors."""

from __future__ import annotations


def average(total: float, value: float, decay: float) -> float:
    """s' = decay s + (1 - decay) value: an exponential moving sum that began at zero."""
    return decay * total + (1 - decay) * value


def unbiased(total: float, count: int, decay: float) -> float:
    """s / (1 - decay^n): the moving sum after n values as a mean of them (Adam, 1412.6980); zero where n = 0."""
    return total / (1 - decay**count) if count else 0.0


def proportional(coefficient: float, found: float, target: float, gain: float, limit: float) -> float:
    """beta' = beta (1 + gain clip((KL - target) / target, -limit, limit)) (Ziegler et al., 1909.08593, Sec. 2.2).

    With gain * limit < 1 the factor is positive.
    """
    error = (found - target) / target
    return coefficient * (1 + gain * min(max(error, -limit), limit))
