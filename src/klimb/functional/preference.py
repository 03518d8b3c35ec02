"""Losses on preferences, from log-ratios of whole answers, one number a pair (or a row).

`gap` is h_w - h_l with h = log pi(y|x) - log ref(y|x) in nats, summed over the answer's tokens, w the chosen and l the
rejected one. Each is differentiable and neither divides nor averages: weights do. log s is the log of the sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch.nn.functional import logsigmoid

from klimb.functional import segments
from klimb.shapes import PerRow, PerToken, RowGroups, TokenMask, TokenRows


def dpo(gap: PerRow, beta: float) -> PerRow:
    """-log s(beta gap) (DPO, 2305.18290, Eq. 7)."""
    return -logsigmoid(beta * gap)


def conservative(gap: PerRow, beta: float, noise: float) -> PerRow:
    """-(1-e) log s(z) - e log s(-z), z = beta gap: labels are wrong with probability e (cDPO, Mitchell, 2023)."""
    return -(1 - noise) * logsigmoid(beta * gap) - noise * logsigmoid(-beta * gap)


def robust(gap: PerRow, beta: float, noise: float) -> PerRow:
    """[-(1-e) log s(z) + e log s(-z)] / (1 - 2e): unbiased for the loss under clean labels (2403.00409, Eq. 12)."""
    return (-(1 - noise) * logsigmoid(beta * gap) + noise * logsigmoid(-beta * gap)) / (1 - 2 * noise)


def ipo(gap: PerRow, tau: float) -> PerRow:
    """(gap - 1 / (2 tau))^2 (IPO, 2310.12036, Eq. 17)."""
    return (gap - 1 / (2 * tau)).square()


def hinge(gap: PerRow, beta: float) -> PerRow:
    """max(0, 1 - beta gap) (SLiC, 2305.10425, with the likelihood ratio in place of the likelihood)."""
    return torch.relu(1 - beta * gap)


def simpo(chosen: PerRow, rejected: PerRow, beta: float, margin: float) -> PerRow:
    """-log s(beta (m_w - m_l) - margin), m the mean log-prob of an answer's tokens (SimPO, 2405.14734, Eq. 6)."""
    return -logsigmoid(beta * (chosen - rejected) - margin)


def log_odds(mean: PerRow) -> PerRow:
    """log(p / (1 - p)) of p = exp(mean), the mean log-prob of an answer's tokens; at most that of p = 1 - 1e-6."""
    inside = mean.clamp(max=-1e-6)
    return inside - torch.log(-torch.expm1(inside))


def orpo(chosen: PerRow, rejected: PerRow) -> PerRow:
    """-log s(log odds_w - log odds_l) from mean log-probs: the second part of ORPO (2403.07691, Eq. 7)."""
    return -logsigmoid(log_odds(chosen) - log_odds(rejected))


def kto(log_ratio: PerRow, point: PerRow, sign: PerRow, beta: float) -> PerRow:
    """1 - s(sign beta (h - z0)), sign 1 for a desirable row and -1 for an undesirable one (KTO, 2402.01306, Eq. 8)."""
    return 1 - torch.sigmoid(sign * beta * (log_ratio - point))


def bradley_terry(gap: PerRow, margin: PerRow) -> PerRow:
    """-log s(r_w - r_l - m): the negative log-likelihood of a preference (Llama 2, 2307.09288, Eq. 2, with margin)."""
    return -logsigmoid(gap - margin)


def centring(chosen: PerRow, rejected: PerRow) -> PerRow:
    """(r_w + r_l)^2: keeps the mean reward of a pair near zero (2312.09244, Eq. 2)."""
    return (chosen + rejected).square()


def divergence_force(log_ratio: PerRow, group: RowGroups, groups: int) -> PerRow:
    """r_i - mean of the other r_j of its group: E[(r_i - b_i) grad log pi(y_i)] = grad KL(pi||ref), r = log(pi/ref).

    In its own type; the rows of a group are drawn from pi, two or more each. The baseline does not see its sample, so
    it costs no bias (HyPO, 2406.01462, with the leave-one-out baseline of 2402.14740).
    """
    size = segments.count_by(torch.ones_like(group, dtype=torch.bool), group, groups, log_ratio.dtype)[group]
    rest = segments.sum_by(log_ratio, group, groups)[group] - log_ratio
    return log_ratio - rest / (size - 1).clamp(min=1)


def togo_force(log_ratio: PerToken, learn: TokenMask, row: TokenRows, group: RowGroups, groups: int) -> PerToken:
    """The same token by token: the log-ratio from t to the end, less its mean over the group's others at place t.

    What was drawn before t does not depend on token t and is left out; an answer that has ended counts zero.
    """
    return _less_others(segments.sum_to_go(log_ratio, learn, row, len(group)), row, group, groups)


def ahead_force(divergence: PerToken, learn: TokenMask, row: TokenRows, group: RowGroups, groups: int) -> PerToken:
    """A_t: the exact next-token KLs k_s of the places after t, summed, less their mean over the others at place t.

    k_s = KL(pi(.|y_<s)||ref(.|y_<s)), so KL(pi||ref) = E[sum_s k_s], whose gradient is E[sum_t grad k_t + A_t grad
    log pi(y_t|y_<t)]: the first part is how the policy moves where it stands, the second where it will come to stand.
    Neither alone is the gradient. k_t does not depend on what is drawn at t, and is not in A_t.
    """
    own = torch.where(learn, divergence, torch.zeros_like(divergence))
    togo = segments.sum_to_go(divergence, learn, row, len(group))
    return _less_others(togo - own, row, group, groups)


def _less_others(values: PerToken, row: TokenRows, group: RowGroups, groups: int) -> PerToken:
    """Each token's value less the mean of the group's other rows at its place; a row that has ended counts zero."""
    place = segments.running_sum(torch.ones_like(values), row, len(group)).round().to(torch.int64) - 1
    longest = int(place.max()) + 1 if len(place) else 1
    at = group[row] * longest + place
    size = segments.count_by(torch.ones_like(group, dtype=torch.bool), group, groups, values.dtype)[group][row]
    rest = segments.sum_by(values, at, groups * longest)[at] - values
    return values - rest / (size - 1).clamp(min=1)


Force = Callable[[PerToken, TokenMask, TokenRows, RowGroups, int], PerToken]


def whole_force(log_ratio: PerToken, learn: TokenMask, row: TokenRows, group: RowGroups, groups: int) -> PerToken:
    """`divergence_force` of each row, at each of its tokens."""
    inside = torch.where(learn, log_ratio, torch.zeros_like(log_ratio))
    return divergence_force(segments.sum_by(inside, row, len(group)), group, groups)[row]


FORCES: Mapping[str, Force] = MappingProxyType(
    {"leave_one_out": whole_force, "reward_to_go": togo_force, "exact": ahead_force}
)
"""The estimators of the reverse KL's gradient, by their names in the settings: what stands before grad log pi.

The first argument is log(pi/ref) of each drawn token; for `exact` the KL of its place, whose own gradient is added.
"""
