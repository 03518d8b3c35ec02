"""What is told of a selector's work, and what an importance correction makes of it."""

from __future__ import annotations

import math

import pytest
import torch

from klimb import functional as F
from klimb.batch import Batch, Outputs
from klimb.selection import Top
from klimb.training.base import Training, Truncate
from klimb.training.weighing import corrected
from tests.training.test_selecting import batch, learner, run
from tests.training.toy import Bigram


def test_groups_without_a_signal_are_ranked_and_the_share_that_is_kept_beside_them_is_told() -> None:
    whole, selector = batch(), Top(share=0.3)
    flat = whole.group < 2
    whole = whole.replace(reward=torch.where(flat, torch.ones_like(whole.reward), whole.reward))
    able = ~flat[whole.row] & whole.learn
    keep = selector.keep(whole)
    metrics = run(learner(selector), whole).metrics()
    assert metrics["selection/share"] == pytest.approx(
        F.selection.size(0.3, int(whole.learn.sum())) / int(whole.learn.sum())
    )
    assert metrics["selection/share_live"] == pytest.approx(int((keep & able).sum()) / int(able.sum()), rel=1e-6)
    assert int((keep & ~able).sum()) > 0 and metrics["tokens/trained"] == int((keep & able).sum())
    none = run(learner(selector), whole.replace(reward=torch.ones_like(whole.reward))).metrics()
    assert none["selection/share"] > 0 and "selection/share_live" not in none


def test_an_importance_correction_weighs_both_shares() -> None:
    whole = batch()
    with torch.no_grad():
        whole = whole.replace(sampler=Bigram()(whole).logp + 0.3)
    settings = Training(micro_tokens=10_000, correction=Truncate(cap=2.0))
    tally = run(learner(Top(), settings=settings), whole)
    assert tally.weight < 1.0
    assert tally.counts["whole"] < 1.0


def test_a_correction_of_whole_answers_counts_the_tokens_that_a_selector_dropped() -> None:
    batch = Batch(
        tokens=torch.tensor([1, 2, 3]),
        row=torch.tensor([0, 0, 0]),
        group=torch.tensor([0]),
        prompts=(torch.tensor([1]),),
        learn=torch.tensor([True, False, False]),
        reward=torch.tensor([1.0]),
        scored=torch.tensor([True]),
        truncated=torch.tensor([False]),
        sampler=torch.tensor([-1.0, -1.0, -1.0]),
        old=torch.tensor([-1.0, -1.5, -1.5]),
        weight=torch.tensor([1.0, 0.0, 0.0]),
        whole=torch.full((3,), 1 / 3),
        able=torch.ones(3, dtype=torch.bool),
    )
    now = Outputs(batch.old, torch.zeros(3))
    fair = corrected(batch, now, Truncate(level="sequence"), comparable=True)
    assert fair.weight[0] == pytest.approx(math.exp(-1.0))
    alone = corrected(batch.replace(able=None), now, Truncate(level="sequence"), comparable=True)
    assert alone.weight[0] == pytest.approx(1.0)
