"""Selections: exactly so many tokens of each population, the same ones whatever the order and the cut of the batch."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from jaxtyping import Int
from torch import Tensor

from klimb.shapes import PerToken, TokenMask, TokenRows

Keys = Int[Tensor, " t"]
_GOLDEN, _FIRST, _SECOND = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def size(share: float, n: int) -> int:
    """k = ceil(share n), of the decimal number that `share` is written as: 0.07 of 100 is 7, not 8.

    Source: Beyond the 80/20 Rule (2506.01939), Eq. 6; the authors' code has int(share n + 0.9999).
    """
    return math.ceil(Fraction(repr(share)) * n)


def places(row: TokenRows, rows: int) -> Keys:
    """The place of each token in its row, from 0; the tokens of a row stand together."""
    lengths = torch.bincount(row, minlength=rows)
    return torch.arange(row.numel(), device=row.device) - (lengths.cumsum(0) - lengths)[row]


def dice(seed: int, key: Keys, place: Keys) -> Keys:
    """A pseudo-random number in [0, 2^63) of (seed, row's key, place in the row) and of nothing else (SplitMix64)."""
    return _mixed(_mixed(_mixed(torch.full_like(key, seed)) ^ key) + place) & ((1 << 63) - 1)


def largest(values: PerToken, among: TokenMask, pool: TokenRows, pools: int, share: float, ties: Keys) -> TokenMask:
    """Of each pool's tokens in `among` exactly the ceil(share n) with the highest value; of equals, the least `ties`.

    Tokens outside `among` count nowhere. Exact top-k, not a quantile: nothing is interpolated, and a threshold of zero
    does not keep every token that has none.
    """
    inside = torch.nonzero(among).flatten()
    order = inside[torch.argsort(ties[inside], stable=True)]
    order = order[torch.argsort(values[order], descending=True, stable=True)]
    order = order[torch.argsort(pool[order], stable=True)]
    counts = torch.bincount(pool[inside], minlength=pools)
    starts = counts.cumsum(0) - counts
    wanted = torch.tensor([size(share, int(n)) for n in counts.tolist()], dtype=torch.int64, device=values.device)
    rank = torch.arange(order.numel(), device=values.device) - starts[pool[order]]
    keep = torch.zeros_like(among)
    keep[order[rank < wanted[pool[order]]]] = True
    return keep


def _mixed(value: Keys) -> Keys:
    """The output function of SplitMix64 (Steele et al. 2014), on 64-bit numbers that wrap around."""
    value = value + _GOLDEN
    value = (value ^ _shifted(value, 30)) * _FIRST
    value = (value ^ _shifted(value, 27)) * _SECOND
    return value ^ _shifted(value, 31)


def _shifted(value: Keys, by: int) -> Keys:
    """A shift to the right that fills with zeros."""
    return (value >> by) & ((1 << (64 - by)) - 1)
