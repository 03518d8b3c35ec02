"""A critic's formulas: rewards on tokens, generalised advantages, returns, value losses, explained variance.

V_t is the value *before* token t is drawn: what the state s_t = (prompt, tokens before t) is thought to be worth. A
masked token takes no part: the chain goes from each learning token of a row to the next learning one. Tokens of a row
stand side by side and rows are in order, as in every batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from klimb.shapes import PerRow, PerToken, Scalar, TokenMask, TokenRows


def left(learn: TokenMask, row: TokenRows, rows: int) -> Tensor:
    """How many learning tokens of the token's own row come after it: (t), whole numbers; 0 at the last one."""
    ends = torch.bincount(row[learn], minlength=rows).cumsum(0)
    return ends[row] - learn.to(torch.int64).cumsum(0)


def at_last(reward: PerRow, learn: TokenMask, row: TokenRows) -> PerToken:
    """r_t = R of the row at its last learning token, zero elsewhere: at EOS, or where the length limit cut it off."""
    last = learn & (left(learn, row, reward.numel()) == 0)
    return torch.where(last, reward[row], torch.zeros_like(reward[row]))


def gae(
    reward: PerToken, value: PerToken, learn: TokenMask, row: TokenRows, rows: int, gamma: float, lam: float
) -> PerToken:
    """A_t = sum_l (gamma lam)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t (1506.02438, Section 3, Eq. 16).

    Exact, from the last token of each row to its first, all rows at once, in float64; zero at masked tokens. V is zero
    after a row's last learning token: an answer is a whole episode, also where the length limit ended it.
    """
    wide_reward, wide_value = reward.to(torch.float64), value.to(torch.float64)
    after, carried = wide_value.new_zeros(rows), wide_value.new_zeros(rows)
    out = torch.zeros_like(wide_value)
    places = learn.nonzero()[:, 0]
    away = left(learn, row, rows)[places]
    for here in places[torch.argsort(away, stable=True)].split(torch.bincount(away).tolist()):
        of = row[here]
        delta = wide_reward[here] + gamma * after[of] - wide_value[here]
        carried[of] = out[here] = delta + gamma * lam * carried[of]
        after[of] = wide_value[here]
    return out.to(value.dtype)


def returns(advantage: PerToken, value: PerToken) -> PerToken:
    """R_t = A_t + V_t, what the value is fitted to (TD(lambda)); with gamma = lam = 1 the reward still to come."""
    return advantage + value


def squared(value: PerToken, target: PerToken) -> PerToken:
    """(V - R)^2 / 2 (1707.06347, Eq. 9, with the half that makes its gradient V - R). The target is a constant."""
    return (value - target.detach()).square() / 2


def clipped_live(value: PerToken, old: PerToken, target: PerToken, eps: float) -> TokenMask:
    """Where the clipped value loss lets the gradient through: |V - V_old| < eps, or V the farther one from R."""
    near = old + (value - old).clamp(-eps, eps)
    return ((value - old).abs() < eps) | ((value - target).abs() > (near - target).abs())


def clipped(value: PerToken, old: PerToken, target: PerToken, eps: float) -> PerToken:
    """max((V - R)^2, (V_old + clip(V - V_old, -eps, eps) - R)^2) / 2: PPO2's clipped value loss.

    It stands in the public code of PPO (OpenAI Baselines), not in the paper. No gradient where the clipped value is
    the farther one from R: V has already moved by eps towards R. At a bound itself there is none.
    """
    fixed = (old + (value - old).clamp(-eps, eps)).detach()
    live = clipped_live(value.detach(), old, target, eps)
    return squared(torch.where(live, value, fixed), target)


def explained_variance(value: PerToken, target: PerToken, learn: TokenMask) -> Scalar:
    """1 - Var[R - V] / Var[R] over learning tokens, population variances, in float64.

    1 = the value knows the returns, 0 = no better than their mean, below 0 = worse. NaN where the returns do not vary
    (or nothing learns): then there is nothing to explain, and no number is given.
    """
    wide, known = target[learn].to(torch.float64), value[learn].to(torch.float64)
    missed, whole = (_variance(part) for part in (wide - known, wide))
    return torch.where(whole > 0, 1 - missed / whole, torch.full_like(whole, torch.nan))


def _variance(values: Tensor) -> Tensor:
    """The population variance, exactly zero for equal values; zero for none."""
    if values.numel() == 0:
        return values.new_zeros(())
    shifted = values - values.min()
    return (shifted - shifted.mean()).square().mean()
