"""Importance ratios: how likelier the current policy makes what another one drew.

Everything starts from log-ratios `log(pi / old)` in nats and ends in one `ratio`, which clamps them to +-20 before
the exponential: a ratio lies in [2e-9, 4.9e8] whatever it is given, and carries no gradient beyond these ends.
"""

from __future__ import annotations

import torch

from klimb.functional import segments
from klimb.shapes import PerToken, TokenMask, TokenRows

LIMIT = 20.0


def ratio(log_ratio: PerToken) -> PerToken:
    """w = exp(log_ratio), the log-ratio clamped to +-20. Differentiable inside.

    Of token log-ratios: the token ratio of PPO (1707.06347, Eq. 6).
    """
    return log_ratio.clamp(-LIMIT, LIMIT).exp()


def product(log_ratio: PerToken, learn: TokenMask, row: TokenRows, rows: int) -> PerToken:
    """log prod_t w_t of the token's own row: the log-ratio of the whole sequence, at each of its tokens.

    Only learning tokens enter. The exact importance ratio of a sequence (RPG, 2505.17508, where x is the response).
    """
    return segments.sum_over_row(log_ratio, learn, row, rows)


def geometric(log_ratio: PerToken, learn: TokenMask, row: TokenRows, rows: int) -> PerToken:
    """(1/|o|) log prod_t w_t: the length-normalised log-ratio of the row, at each of its tokens.

    Only learning tokens enter. GSPO (2507.18071, Eq. 7). It is no unbiased weight: it is a measure of distance.
    """
    return segments.mean_over_row(log_ratio, learn, row, rows)


def straight(value: PerToken, logp: PerToken) -> PerToken:
    """SG(value) pi / SG(pi): the value of a row's ratio with the gradient of the token's own log-prob.

    GSPO-token (2507.18071, Eq. 14), which lets every token have an advantage of its own.
    """
    return value.detach() * (logp - logp.detach()).exp()


def truncated(log_ratio: PerToken, cap: float) -> PerToken:
    """min(w, cap), detached: truncated importance sampling, for log_ratio = log(trainer's old / sampler's).

    Biased towards smaller weights by what is cut; its variance is bounded. Ionides (2008); `cap` is 2 in most trainers.
    """
    return ratio(log_ratio).clamp(max=cap).detach()


def masked(log_ratio: PerToken, low: float, high: float) -> PerToken:
    """w where low <= w <= high, else zero; detached. Tokens on which sampler and trainer disagree do not learn."""
    weight = ratio(log_ratio).detach()
    return torch.where((weight >= low) & (weight <= high), weight, torch.zeros_like(weight))
