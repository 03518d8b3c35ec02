"""Samples that several updates learn from: every later one knows what drew them, so that HyPO weighs them by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from klimb.batch import Batch, Outputs, Terms
from klimb.objectives import HyPO
from klimb.selection.every import Every
from klimb.training.base import AdamW, Training
from klimb.training.optimizer import MasterAdamW
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.weighing import Passes
from klimb.types import Label
from tests.training.toy import Bigram, groups

SEEN: list[tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]] = []
"""`old`, `now` and the tokens of each loss that was asked for."""


class Watched(HyPO):
    """Notes what it is given; where `forgetful`, it does not know what drew the samples."""

    forgetful: bool = False

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        SEEN.append((batch.old, now.logp.detach(), batch.tokens))
        return super().loss(now, batch.replace(old=None) if self.forgetful else batch)


def asked() -> Batch:
    """Two pairs, and three samples for the prompt of each."""
    kinds = ((Label.CHOSEN, Label.REJECTED), (Label.FRESH,) * 3)
    both = [
        replace(group, rollouts=tuple(replace(r, label=k) for r, k in zip(group.rollouts, own, strict=False)))
        for own in kinds
        for group in groups(2, 3)
    ]
    return Batch.of([replace(one, rollouts=one.rollouts[:2]) for one in both[:2]] + both[2:])


def learned(passes: Passes, **settings: Any) -> torch.Tensor:
    policy, start = Bigram(), Bigram()
    with torch.no_grad():
        start.table.mul_(0.5)
    SEEN.clear()
    objective = Watched(kl_weight=1.0, **settings)
    optimizer = MasterAdamW(policy.named_parameters(), AdamW(lr=0.1))
    made = Learner(policy, optimizer, objective, Every(), Training(), reference=start, passes=passes)
    learn(made, asked(), 0.1, 0, Stopwatch())
    return policy.table.detach()


@pytest.mark.parametrize("passes", [Passes(epochs=2), Passes(minibatches=2), Passes(2, 2)], ids=str)
def test_each_update_after_the_first_weighs_the_samples_by_the_policy_that_drew_them(passes: Passes) -> None:
    weighed = learned(passes)
    drew = Bigram()(asked()).logp.detach()
    assert len(SEEN) == passes.epochs * passes.minibatches
    for number, (old, now, tokens) in enumerate(SEEN):
        assert old is not None and torch.equal(old, now) == (number == 0)
        assert passes.minibatches > 1 or (torch.equal(old, drew) and torch.equal(tokens, asked().tokens))
    assert not torch.allclose(weighed, learned(passes, forgetful=True), atol=1e-4)


def test_of_one_update_the_samples_are_the_policys_own_and_nothing_is_measured_before_it() -> None:
    once = learned(Passes())
    assert [old for old, _, _ in SEEN] == [None] and torch.equal(once, learned(Passes(), forgetful=True))
