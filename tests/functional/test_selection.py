"""Exactly so many tokens of each pool, whatever their order; pseudo-random numbers that depend on names only."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from klimb import functional as F

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1e-6)


@pytest.mark.parametrize("share", SHARES)
def test_the_size_is_the_ceiling_of_the_decimal_share(share: float) -> None:
    for n in (0, 1, 3, 10, 30, 70, 1000, 123_457):
        k = F.selection.size(share, n)
        assert Fraction(repr(share)) * n <= k < Fraction(repr(share)) * n + 1
    assert F.selection.size(0.07, 100) == 7 != math.ceil(0.07 * 100)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=40),
    share=st.sampled_from(SHARES),
    seed=st.integers(0, 99),
)
def test_exactly_the_wanted_number_of_each_pool_is_kept_and_none_higher_is_dropped(
    values: list[float], share: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.tensor(values)
    pool = torch.randint(3, numbers.shape, generator=draw)
    among = torch.rand(numbers.shape, generator=draw) < 0.7
    ties = F.selection.dice(seed, torch.zeros_like(pool), torch.arange(len(values)))
    keep = F.selection.largest(numbers, among, pool, 4, share, ties)
    assert not (keep & ~among).any()
    for number in range(4):
        here = among & (pool == number)
        assert int((keep & here).sum()) == F.selection.size(share, int(here.sum()))
        kept, dropped = numbers[keep & here], numbers[here & ~keep]
        if kept.numel() and dropped.numel():
            assert kept.min() >= dropped.max()
    order = torch.randperm(len(values), generator=draw)
    turned = F.selection.largest(numbers[order], among[order], pool[order], 4, share, ties[order])
    assert torch.equal(turned, keep[order])


def test_the_dice_are_uniform_and_each_depends_on_seed_row_and_place() -> None:
    key = torch.arange(100).repeat_interleave(100)
    place = torch.arange(100).repeat(100)
    first = F.selection.dice(0, key, place)
    assert first.unique().numel() == 10_000
    assert int(first.min()) >= 0
    shares = first.double() / 2**63
    assert abs(float(shares.mean()) - 0.5) < 0.01
    assert torch.histc(shares, 10, 0, 1).min() > 900
    assert not torch.equal(first, F.selection.dice(1, key, place))
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(F.selection.dice(0, key[order], place[order]), first[order])


def test_the_dice_are_those_of_splitmix64() -> None:
    """The first output for the seed 1234567 is the published test value of that generator."""
    assert int(F.selection._mixed(torch.tensor([1234567]))) & (2**64 - 1) == 6457827717110365317


def test_places_count_from_zero_in_each_row() -> None:
    assert F.selection.places(torch.tensor([0, 0, 2, 2, 2]), 3).tolist() == [0, 1, 0, 1, 2]
