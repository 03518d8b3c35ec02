"""Advantages: rewards of scored rows, less a baseline. Each function gives zero to a row that was not scored.

Computed in float64 and given back in the reward's own type. Rewards are shifted by the smallest of their group first,
so that a group of equal rewards has an advantage of exactly zero, whatever their value. Never NaN for finite rewards.
"""

from __future__ import annotations

import torch

from klimb.functional import segments
from klimb.shapes import PerRow, PerToken, RowGroups, RowMask, TokenMask


def uncentred(reward: PerRow, scored: RowMask, group: RowGroups, groups: int) -> PerRow:
    """A_i = R_i: no baseline."""
    return torch.where(scored, reward, torch.zeros_like(reward))


def group_mean(reward: PerRow, scored: RowMask, group: RowGroups, groups: int) -> PerRow:
    """A_i = R_i - mean of the group, the row itself included; not divided by a spread.

    RPG (2505.17508), Dr. GRPO (2503.20783). Its expected gradient is (n - 1) / n of the true one, n rows a group.
    """
    return _centred(reward, scored, group, groups).to(reward.dtype)


def batch_mean(reward: PerRow, scored: RowMask, group: RowGroups, groups: int) -> PerRow:
    """A_i = R_i - mean of all scored rows."""
    return group_mean(reward, scored, torch.zeros_like(group), 1)


def moving(reward: PerRow, scored: RowMask, baseline: float) -> PerRow:
    """A_i = R_i - b, b made of earlier steps only (see `moving.average`), so that it does not see the sample."""
    return torch.where(scored, reward - baseline, torch.zeros_like(reward))


def leave_one_out(reward: PerRow, scored: RowMask, group: RowGroups, groups: int) -> PerRow:
    """A_i = R_i - mean of the *other* rows of its group = n/(n-1) (R_i - mean) (RLOO, 2402.14740); zero where n = 1."""
    size = segments.count_by(scored, group, groups, torch.float64)
    scale = torch.where(size > 1, size / (size - 1).clamp(min=1), torch.zeros_like(size))
    return (_centred(reward, scored, group, groups) * scale[group]).to(reward.dtype)


def z_score(reward: PerRow, scored: RowMask, group: RowGroups, groups: int, eps: float = 1e-6) -> PerRow:
    """A_i = (R_i - mean) / (std + eps) of its group (GRPO, 2402.03300, 4.1.2); zero where n = 1.

    std is the sample standard deviation (n - 1 below), as TRL and verl take it; the paper does not say.
    """
    centred = _centred(reward, scored, group, groups)
    size = segments.count_by(scored, group, groups, torch.float64)
    variance = segments.sum_by(centred.square(), group, groups) / (size - 1).clamp(min=1)
    return (centred / (variance.sqrt() + eps)[group]).to(reward.dtype)


def whitened(advantage: PerToken, learn: TokenMask, eps: float = 1e-8) -> PerToken:
    """(A_t - mean) / sqrt(max(variance, eps)) over all learning tokens, population variance; zero elsewhere.

    REINFORCE++ (2501.03262), as OpenRLHF computes it: every token counts once, so long answers weigh more.
    """
    whole = torch.zeros_like(learn, dtype=torch.int64)
    centred = _centred(advantage, learn, whole, 1)
    variance = centred.square().sum() / learn.sum().clamp(min=1)
    return (centred / variance.clamp(min=eps).sqrt()).to(advantage.dtype)


def overlong(length: PerRow, limit: int, buffer: int) -> PerRow:
    """DAPO's soft overlong punishment (2503.14476, Eq. 13), to be added to the reward: in [-1, 0].

    Zero for up to `limit - buffer` tokens, then falling linearly to -1 at `limit` tokens.
    """
    return ((limit - buffer - length) / buffer).clamp(-1, 0)


def _centred(reward: PerRow, scored: RowMask, group: RowGroups, groups: int) -> PerRow:
    """R_i - mean of the scored rows of its group, in float64; zero where it was not scored."""
    wide = reward.to(torch.float64)
    shifted = wide - segments.least_by(wide, scored, group, groups)[group]
    centred = shifted - segments.mean_by(shifted, scored, group, groups)[group]
    return torch.where(scored, centred, torch.zeros_like(centred))
