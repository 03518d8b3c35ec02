"""Sums and means over segments: tokens by row, rows by group. No padding, so every average is by index."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from klimb.shapes import PerToken, TokenMask, TokenRows

Values = Float[Tensor, " n"]
Mask = Bool[Tensor, " n"]
Index = Int[Tensor, " n"]
PerSegment = Float[Tensor, " s"]
SegmentMask = Bool[Tensor, " s"]


def sum_by(values: Values, index: Index, count: int) -> PerSegment:
    """out[s] = sum of values[n] over index[n] = s; zero for an empty segment. Differentiable."""
    return values.new_zeros(count).index_add(0, index, values)


def count_by(mask: Mask, index: Index, count: int, dtype: torch.dtype = torch.float32) -> PerSegment:
    """out[s] = how many n with index[n] = s have a true mask, as a floating number."""
    return sum_by(mask.to(dtype), index, count)


def mean_by(values: Values, mask: Mask, index: Index, count: int) -> PerSegment:
    """out[s] = mean of the masked values[n] with index[n] = s; zero where there is none. Differentiable."""
    inside = torch.where(mask, values, torch.zeros_like(values))
    return sum_by(inside, index, count) / count_by(mask, index, count, values.dtype).clamp(min=1)


def least_by(values: Values, mask: Mask, index: Index, count: int) -> PerSegment:
    """out[s] = the smallest masked values[n] with index[n] = s; zero where there is none."""
    empty = values.new_full((count,), torch.inf)
    least = empty.scatter_reduce(0, index[mask], values[mask], "amin")
    return torch.where(torch.isinf(least), torch.zeros_like(least), least)


def any_by(mask: Mask, index: Index, count: int) -> SegmentMask:
    """out[s] = whether some n with index[n] = s has a true mask."""
    return count_by(mask, index, count) > 0


def sum_over_row(values: PerToken, learn: TokenMask, row: TokenRows, rows: int) -> PerToken:
    """The sum over the learning tokens of the token's own row, given back to each token. Differentiable."""
    return sum_by(torch.where(learn, values, torch.zeros_like(values)), row, rows)[row]


def mean_over_row(values: PerToken, learn: TokenMask, row: TokenRows, rows: int) -> PerToken:
    """The mean over the learning tokens of the token's own row, given back to each token. Differentiable."""
    return mean_by(values, learn, row, rows)[row]


def sum_to_go(values: PerToken, learn: TokenMask, row: TokenRows, rows: int) -> PerToken:
    """out[t] = the sum over the learning tokens of t's row from t on (in order), t included; zero where not learning.

    Added up in float64 and given back in the type of the values.
    """
    inside = torch.where(learn, values, torch.zeros_like(values)).to(torch.float64)
    before = inside.cumsum(0) - inside
    first = torch.full((rows,), len(row), device=row.device).scatter_reduce(
        0, row, torch.arange(len(row), device=row.device), "amin"
    )
    done = before - before[first[row]]
    togo = sum_by(inside, row, rows)[row] - done
    return torch.where(learn, togo, torch.zeros_like(togo)).to(values.dtype)


def running_sum(values: PerToken, row: TokenRows, rows: int) -> PerToken:
    """The sum from the row's first token up to this one; rows in order, each in one piece. Differentiable.

    Summed in float64: what stands before the row is added and taken off again.
    """
    wide = values.to(torch.float64)
    total = sum_by(wide, row, rows)
    return (wide.cumsum(0) - (total.cumsum(0) - total)[row]).to(values.dtype)
