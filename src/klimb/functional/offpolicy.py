"""Off-policy evaluation: what a policy is worth, from answers that another one drew.

Each estimator gives one *share* a row, whose mean is the estimate; `interval` of the shares is its 95 % interval. The
rows are independent draws of the behaviour policy mu (`clustered`: only those of different prompts are); log-weights
are log(pi / mu), clamped as in `importance.ratio`. Only where mu gives every answer of pi a chance are the estimates
right; truncated sampling (top-p, top-k) does not.
"""

from __future__ import annotations

import math

import torch

from klimb.functional import segments
from klimb.functional.importance import ratio
from klimb.shapes import PerRow, PerToken, RowGroups, Scalar, TokenRows

Z95 = 1.959963984540054


def ordinary(log_weight: PerRow, value: PerRow) -> PerRow:
    """w_i r_i: importance sampling. Unbiased; its variance is E_mu[(w r)^2] - V^2 over n, which may be vast."""
    return ratio(log_weight) * value


def weighted(log_weight: PerRow, value: PerRow) -> PerRow:
    """V + w_i (r_i - V) / mean(w) with V = sum w r / sum w: self-normalised importance sampling, linearised.

    The mean of the shares is V itself; their spread is that of the delta method. Biased by O(1/n), within the range of
    the rewards, and unmoved by adding a constant to them (Hesterberg 1995; Owen, Monte Carlo, Eq. 9.8).
    """
    weight = ratio(log_weight)
    mean = (weight * value).sum() / weight.sum()
    return mean + weight * (value - mean) / weight.mean()


def per_decision(log_ratio: PerToken, value: PerToken, row: TokenRows, rows: int) -> PerRow:
    """sum_t w_{1:t} r_t: each token's reward is weighed by the tokens up to it only (Precup et al. 2000).

    Unbiased. With a reward on the last token alone it is `ordinary`. Tokens stand in order of row.
    """
    return segments.sum_by(ratio(segments.running_sum(log_ratio, row, rows)) * value, row, rows)


def doubly_robust(
    log_ratio: PerToken, value: PerToken, before: PerToken, after: PerToken, row: TokenRows, rows: int
) -> PerRow:
    """sum_t w_{1:t-1} v_t + w_{1:t} (r_t - q_t) (Jiang & Li 2016, Eq. 10, unrolled, undiscounted).

    `before` is a guess v_t of the value under pi before token t, `after` a guess q_t of what comes with it and after
    it, r_t included. Unbiased whatever the guesses, as long as v_t is the mean of q_t under pi; with true guesses its
    spread is that of the rewards' noise and of the first token's state alone.
    """
    upto = segments.running_sum(log_ratio, row, rows)
    shares = ratio(upto - log_ratio) * before + ratio(upto) * (value - after)
    return segments.sum_by(shares, row, rows)


def interval(shares: PerRow, z: float = Z95) -> tuple[Scalar, Scalar, Scalar]:
    """The mean and its two ends mean -+ z s / sqrt(n): a normal interval; infinite for fewer than two rows.

    It is too narrow where few rows carry the weight: look at `effective_size` first.
    """
    mean, n = shares.mean(), len(shares)
    half = z * shares.std() / math.sqrt(n) if n > 1 else torch.full_like(mean, torch.inf)
    return mean, mean - half, mean + half


def clustered(shares: PerRow, cluster: RowGroups, z: float = Z95) -> tuple[Scalar, Scalar, Scalar]:
    """The mean and its interval where the rows of a cluster (a prompt's answers) are alike, and clusters independent.

    The variance is C / (C - 1) sum_c (sum_{i in c} (s_i - mean))^2 / n^2 over the C clusters (Liang & Zeger 1986); with
    one row each it is that of `interval`. `cluster` numbers them in any order; infinite for fewer than two.
    """
    _, index = cluster.unique(return_inverse=True)
    count, mean = int(index.max()) + 1, shares.mean()
    spread = segments.sum_by(shares - mean, index, count).square().sum().sqrt() / len(shares)
    half = z * spread * math.sqrt(count / (count - 1)) if count > 1 else torch.full_like(mean, torch.inf)
    return mean, mean - half, mean + half


def effective_size(log_weight: PerRow) -> Scalar:
    """(sum w)^2 / sum w^2 (Kish 1965): as how many equally weighted rows these count, from 1 to n; 0 for no rows."""
    weight = ratio(log_weight)
    return weight.sum().square() / weight.square().sum().clamp(min=torch.finfo(weight.dtype).tiny)
