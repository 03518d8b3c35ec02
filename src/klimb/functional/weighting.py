"""Weightings: how much each token counts. Losses never divide; these weights do (design D4).

Each is made once per optimizer step, on the whole step's tokens, is zero where `learn` is False, and sums to one (to
zero where nothing learns). `constant` alone sums to something else: its divisor is given.
"""

from __future__ import annotations

import torch

from klimb.functional import segments
from klimb.shapes import PerToken, Scalar, TokenMask, TokenRows


def token_mean(learn: TokenMask) -> PerToken:
    """1 / (number of learning tokens): every token counts the same (DAPO, 2503.14476, Eq. 8)."""
    counted = learn.to(torch.float32)
    return counted / counted.sum().clamp(min=1)


def row_mean(learn: TokenMask, row: TokenRows, rows: int) -> PerToken:
    """1 / (rows that learn) / (learning tokens of the row): every row counts the same (GRPO, 2402.03300, Eq. 3)."""
    lengths = segments.count_by(learn, row, rows)
    learning = (lengths > 0).sum().clamp(min=1)
    return torch.where(learn, 1 / (lengths.clamp(min=1)[row] * learning), torch.zeros_like(lengths[row]))


def constant(learn: TokenMask, row: TokenRows, rows: int, length: int) -> PerToken:
    """1 / (rows that learn) / `length` a token, whatever the row's own length (Dr. GRPO, 2503.20783).

    Sums to the mean length of a learning row over `length`, not to one: that is the method.
    """
    learning = segments.any_by(learn, row, rows).sum().clamp(min=1)
    return learn.to(torch.float32) / (learning * length)


def kept_mean(learn: TokenMask, keep: TokenMask) -> PerToken:
    """The token mean over learning tokens that are kept (Beyond the 80/20 Rule, 2506.01939 v2)."""
    return token_mean(learn & keep)


def total(values: PerToken, weight: PerToken) -> Scalar:
    """sum_t weight[t] values[t]; a token without weight adds nothing, whatever its value."""
    return (torch.where(weight != 0, values, torch.zeros_like(values)) * weight).sum()
