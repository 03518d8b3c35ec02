"""The group-based baselines, each against its paper's sum written as loops over rows and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from klimb import functional as F
from klimb.batch import Batch
from klimb.objectives import CISPO, DAPO, GSPO, RLOO, DrGRPO, GSPOToken, ReinforcePP, ReinforcePPBaseline
from tests.objectives.kit import batch, moved, ready, update

Numbers = NDArray[np.float64]


@dataclass
class Row:
    """One answer: its reward, those of its group, and now, old and ref log-probs of its learning tokens."""

    reward: float
    group: Numbers
    length: int
    now: Numbers
    old: Numbers
    ref: Numbers

    @property
    def z(self) -> float:
        spread = self.group.std(ddof=1) if len(self.group) > 1 else 0.0
        return float((self.reward - self.group.mean()) / (spread + 1e-6))


def rows(whole: Batch, logp: Tensor, reward: Tensor | None = None) -> Iterator[Row]:
    """The rows with a learning token."""
    reward = whole.reward if reward is None else reward
    assert whole.old is not None
    assert whole.ref is not None
    for row in range(whole.rows):
        inside = (whole.row == row) & whole.learn
        mine = reward[whole.scored & (whole.group == whole.group[row].item())].numpy()
        values = (x.detach()[inside].numpy() for x in (logp, whole.old, whole.ref))
        if inside.any():
            yield Row(float(reward[row]), mine, int((whole.row == row).sum()), *values)


def ppo(w: Numbers, a: float, low: float, high: float) -> Numbers:
    return -np.minimum(w * a, np.clip(w, 1 - low, 1 + high) * a)


WHOLE = batch(31, prompts=6)
LOGP = moved(WHOLE)
ROWS = list(rows(WHOLE, LOGP))
TOKENS = sum(len(row.now) for row in ROWS)


def test_dr_grpo_divides_each_rows_sum_by_a_constant() -> None:
    total = sum(ppo(np.exp(r.now - r.old), r.reward - r.group.mean(), 0.2, 0.2).sum() / 9 for r in ROWS)
    objective = DrGRPO(length=9)
    assert update(objective, ready(objective, WHOLE), LOGP)[0]["loss"] == pytest.approx(total / len(ROWS), rel=1e-6)


def test_rloo_weighs_whole_answers_by_the_mean_of_the_others() -> None:
    total = 0.0
    for r in ROWS:
        others = (r.group.sum() - r.reward) / (len(r.group) - 1) if len(r.group) > 1 else r.reward
        total -= np.exp((r.now - r.old).sum()) * (r.reward - others)
    assert update(RLOO(), ready(RLOO(), WHOLE), LOGP)[0]["loss"] == pytest.approx(total / len(ROWS), rel=1e-6)


def test_dapo_takes_the_mean_over_tokens_with_more_room_above() -> None:
    total = sum(ppo(np.exp(r.now - r.old), r.z, 0.2, 0.28).sum() for r in ROWS)
    numbers, _ = update(DAPO(), ready(DAPO(), WHOLE), LOGP)
    assert numbers["loss"] == pytest.approx(total / TOKENS, rel=1e-6)
    ratios = [(r.z, np.exp(r.now - r.old)) for r in ROWS]
    clipped = sum(((w >= 1.28) if z > 0 else (w <= 0.8) & (z < 0)).sum() for z, w in ratios)
    assert numbers["policy/clip_share"] == pytest.approx(clipped / TOKENS, rel=1e-6)
    assert clipped > 0


def test_dapos_overlong_punishment_enters_the_reward_before_the_group_is_compared() -> None:
    objective = DAPO(length=5, buffer=4, penalty=0.5)
    punished = WHOLE.reward - 0.5 * (WHOLE.lengths - 1) / 4  # every answer has one to five tokens
    total = sum(ppo(np.exp(r.now - r.old), r.z, 0.2, 0.28).sum() for r in rows(WHOLE, LOGP, punished))
    assert update(objective, ready(objective, WHOLE), LOGP)[0]["loss"] == pytest.approx(total / TOKENS, rel=1e-6)


def test_the_overlong_punishment_has_the_papers_three_pieces() -> None:
    lengths = torch.tensor([1.0, 16384, 18432, 20480, 30000])
    np.testing.assert_allclose(F.advantage.overlong(lengths, 20480, 4096), [0, 0, -0.5, -1, -1])
    with pytest.raises(ValidationError, match="buffer=9 is longer than length=8"):
        DAPO(length=8, buffer=9)


def test_gspo_clips_whole_rows_by_their_geometric_mean_ratio() -> None:
    objective = GSPO(eps_low=0.1, eps_high=0.2)
    total, clipped = 0.0, 0
    for r in ROWS:
        s = np.exp((r.now - r.old).mean())
        total += float(ppo(s, r.z, 0.1, 0.2))
        clipped += (s >= 1.2 and r.z > 0) or (s <= 0.9 and r.z < 0)
    numbers, _ = update(objective, ready(objective, WHOLE), LOGP)
    assert numbers["loss"] == pytest.approx(total / len(ROWS), rel=1e-6)
    assert numbers["policy/clip_share"] == pytest.approx(clipped / len(ROWS), rel=1e-6)
    assert 0 < clipped < len(ROWS)


def test_gspo_gives_every_token_of_a_live_row_the_same_share_of_its_gradient() -> None:
    objective = GSPO(eps_low=1.0, eps_high=1e9)
    _, gradient = update(objective, ready(objective, WHOLE), LOGP)
    learning = [gradient[(WHOLE.row == row) & WHOLE.learn].numpy() for row in range(WHOLE.rows)]
    for r, found in zip(ROWS, (g for g in learning if len(g)), strict=True):
        s = np.exp((r.now - r.old).mean())
        np.testing.assert_allclose(found, -s * r.z / len(r.now) / len(ROWS), rtol=1e-6, atol=1e-12)


def test_cispo_caps_the_weight_and_keeps_the_gradient() -> None:
    objective, at = CISPO(cap=1.2), ready(CISPO(), WHOLE)
    numbers, gradient = update(objective, at, LOGP)
    weights = [np.minimum(np.exp(r.now - r.old), 1.2) * r.z for r in ROWS]
    total = -sum((w * r.now).sum() for w, r in zip(weights, ROWS, strict=True))
    assert numbers["loss"] == pytest.approx(total / TOKENS, rel=1e-6)
    assert numbers["policy/clip_share"] > 0
    np.testing.assert_allclose(gradient[WHOLE.learn], -np.concatenate(weights) / TOKENS, rtol=1e-6, atol=1e-12)


def test_reinforce_pp_whitens_over_all_learning_tokens() -> None:
    raw = np.concatenate([np.full(len(r.now), r.reward) for r in ROWS])
    mean, spread = raw.mean(), raw.std()
    total = sum(ppo(np.exp(r.now - r.old), (r.reward - mean) / spread, 0.2, 0.2).sum() for r in ROWS)
    found = update(ReinforcePP(), ready(ReinforcePP(), WHOLE), LOGP)[0]["loss"]
    assert found == pytest.approx(total / TOKENS, rel=1e-6)


def test_its_group_form_whitens_what_the_group_mean_leaves_and_adds_k2() -> None:
    objective = ReinforcePPBaseline(beta=0.3)
    raw = np.concatenate([np.full(len(r.now), r.reward - r.group.mean()) for r in ROWS])
    mean, spread = raw.mean(), raw.std()
    total = 0.0
    for r in ROWS:
        total += ppo(np.exp(r.now - r.old), (r.reward - r.group.mean() - mean) / spread, 0.2, 0.2).sum()
        total += 0.3 * ((r.now - r.ref) ** 2 / 2).sum()
    numbers, _ = update(objective, ready(objective, WHOLE), LOGP)
    assert numbers["loss"] == pytest.approx(total / TOKENS, rel=1e-6)
    k3 = sum((np.exp(r.ref - r.now) - 1 - (r.ref - r.now)).sum() for r in ROWS)
    assert numbers["policy/kl_ref"] == pytest.approx(k3 / TOKENS, rel=1e-6)
    ratios = np.concatenate([np.exp(r.now - r.old) for r in ROWS])
    assert numbers["policy/ratio"] == pytest.approx(ratios.mean(), rel=1e-6)
    assert numbers["policy/kl_old"] == pytest.approx((ratios - 1 - np.log(ratios)).mean(), rel=1e-6)


@pytest.mark.parametrize(
    "objective", [RLOO(), DrGRPO(length=1), DAPO(), GSPO(), GSPOToken(), CISPO(), ReinforcePPBaseline()], ids=repr
)
def test_what_compares_within_a_group_asks_for_two_answers(objective: RLOO) -> None:
    assert objective.minimum_group == 2
    assert not objective.refers
