"""A KL to a reference in the reward and in the loss, against sums written as loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.objectives import CISPO, DAPO, GRPO, GSPO, RLOO, TOPR, DrGRPO, GSPOToken, Objective, Reinforce, ReinforcePP
from klimb.objectives.penalty import KL, Penalised
from tests.objectives.kit import EVERY, PENALTIES, REWARD, batch, changed, moved, named, ready, update

WHOLE = batch(31, prompts=6)
LOGP = moved(WHOLE)
ESTIMATES = {"k1": lambda x: x, "k2": lambda x: x**2 / 2, "k3": lambda x: np.exp(-x) - 1 + x}


def columns(whole: Batch) -> tuple[Any, ...]:
    """now, old and ref as arrays."""
    assert whole.old is not None and whole.ref is not None
    return LOGP.detach().numpy(), whole.old.numpy(), whole.ref.numpy()


@pytest.mark.parametrize("way", [way for way in PENALTIES if way["where"] == "loss"], ids=str)
def test_in_the_loss_it_is_the_weighted_estimate_of_each_token(way: dict[str, str]) -> None:
    (plain, none), (with_kl, slope) = (
        update(o, ready(o, WHOLE), LOGP) for o in (GRPO(), GRPO(beta=0.3, kl=KL.model_validate(way)))
    )
    now, old, ref = columns(WHOLE)
    x, w = now - ref, np.exp(now - old)
    share = ready(GRPO(), WHOLE).weight.numpy()  # type: ignore[union-attr]
    k, dk = ESTIMATES[way["estimator"]](x), {"k1": 1.0, "k2": x, "k3": 1 - np.exp(-x)}[way["estimator"]]
    value = k if way["weighted"] == "none" else w * k
    force = {"none": dk, "detached": w * dk, "attached": w * dk + w * k}[way["weighted"]]
    assert with_kl["loss"] - plain["loss"] == pytest.approx(float((share * 0.3 * value).sum()), rel=1e-9)
    np.testing.assert_allclose(slope - none, share * 0.3 * force, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("plain", [RLOO(), GRPO(), DrGRPO(length=7), GSPO(), DAPO(), CISPO(), Reinforce(), TOPR()])
def test_in_the_reward_the_whole_answer_pays_before_it_is_compared(plain: Objective, estimator: str) -> None:
    objective = changed(plain, beta=0.3, kl={"where": "reward", "estimator": estimator})
    _, old, ref = columns(WHOLE)
    paid = WHOLE.reward.clone()
    for t, row in enumerate(WHOLE.row.tolist()):
        if WHOLE.learn[t]:
            paid[row] -= 0.3 * float(ESTIMATES[estimator](old[t] - ref[t]))
    expected = plain.advantage(WHOLE.replace(reward=paid)).advantage
    found = objective.advantage(WHOLE).advantage
    assert expected is not None and found is not None
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert objective.reads_old and not plain.reads_old


def test_reinforce_pp_lets_each_token_pay_for_what_follows_then_whitens() -> None:
    _, old, ref = columns(WHOLE)
    raw = np.zeros(len(old))
    for t, row in enumerate(WHOLE.row.tolist()):
        later = [u for u in range(t, len(old)) if WHOLE.row[u] == row and WHOLE.learn[u]]
        raw[t] = float(WHOLE.reward[row]) - 0.3 * sum(old[u] - ref[u] for u in later)
    learn = WHOLE.learn.numpy()
    expected = (raw - raw[learn].mean()) / raw[learn].std()
    found = ReinforcePP(beta=0.3).advantage(WHOLE).advantage
    assert found is not None
    np.testing.assert_allclose(found[WHOLE.learn], expected[learn], rtol=1e-9)


def test_gspo_token_is_gspo_where_every_token_has_the_rows_advantage() -> None:
    common = {"eps_low": 0.1, "eps_high": 0.2}
    one, other = (kind.model_validate(common) for kind in (GSPO, GSPOToken))
    (numbers, slope), (others, same) = (update(o, ready(o, WHOLE), LOGP) for o in (one, other))
    assert numbers == pytest.approx(others, rel=1e-12)
    torch.testing.assert_close(same, slope, rtol=1e-12, atol=1e-14)
    assert (slope != 0).any() and numbers["policy/clip_share"] > 0


def test_gspo_token_weighs_each_tokens_own_advantage_by_the_rows_ratio() -> None:
    objective = GSPOToken(beta=0.3, kl=REWARD, eps_low=1.0, eps_high=1e9)
    at = ready(objective, WHOLE)
    _, slope = update(objective, at, LOGP)
    now, old, ref = columns(WHOLE)
    assert at.weight is not None and at.advantage is not None
    for row in range(WHOLE.rows):
        inside = ((WHOLE.row == row) & WHOLE.learn).numpy()
        if inside.any():
            s = np.exp((now - old)[inside].mean())
            a = (at.advantage.numpy() * at.weight.numpy())[inside]
            np.testing.assert_allclose(slope[inside], -s * a, rtol=1e-9, atol=1e-14)
            togo = np.cumsum((old - ref)[inside][::-1])[::-1]
            plain = GSPOToken().advantage(WHOLE).advantage
            assert plain is not None
            np.testing.assert_allclose(at.advantage[inside], plain.numpy()[inside] - 0.3 * togo, rtol=1e-9)


@pytest.mark.parametrize("objective", [GRPO(beta=0.1), RLOO(beta=0.1)], ids=lambda o: o.type)
def test_a_steered_coefficient_replaces_beta(objective: Any) -> None:
    twice = type(objective)(beta=0.2)
    steered = WHOLE.replace(carried={"kl_coefficient": 0.2})
    assert update(objective, ready(objective, steered), LOGP)[0] == update(twice, ready(twice, WHOLE), LOGP)[0]


def test_the_moving_baseline_is_what_was_carried_and_nothing_at_first() -> None:
    objective = Reinforce(baseline="moving", decay=0.8)
    for carried, baseline in (({}, 0.0), ({"baseline": 0.25}, 0.25)):
        found = objective.advantage(WHOLE.replace(carried=carried)).advantage
        assert found is not None
        expected = torch.where(WHOLE.scored, WHOLE.reward - baseline, torch.zeros_like(WHOLE.reward))
        assert torch.equal(found, expected[WHOLE.row])
    assert objective.carried.decay == 0.8 and Reinforce().carried.decay is None
    assert objective.minimum_group == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"beta": 0.1, "kl": {"where": "reward", "estimator": "k1", "weighted": "attached"}}, "kl.where=loss"),
    ({"kl": {"control": {"target": 0.1}}}, "objective.beta=0.01"),
    ({"kl": {"refresh": {"every": 5}}}, "objective.beta=0.01"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED, ids=str)
def test_what_makes_no_sense_together_is_refused_with_a_cure(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(GRPO, settings)
    assert len(caught.value.faults) == 1
    assert text in str(caught.value)


def test_a_part_of_the_kl_that_is_said_keeps_the_rest_of_the_papers() -> None:
    kl = resolve(RLOO, {"beta": 0.1, "kl": {"control": {"target": 0.2}}}).kl
    assert (kl.where, kl.estimator, kl.control.target) == ("reward", "k1", 0.2)
    carried = RLOO(beta=0.1, kl=kl).carried
    assert carried.control == kl.control and carried.refresh is None and carried.beta == 0.1
    assert DrGRPO(length=3, kl=kl).carried.control is None, "without a weight there is nothing to steer"


@pytest.mark.parametrize("plain", [one for one in EVERY if isinstance(one, Penalised)], ids=named)
def test_rows_without_an_advantage_are_run_where_a_kl_in_the_loss_moves_them_and_only_there(plain: Objective) -> None:
    equal = WHOLE.replace(reward=torch.full_like(WHOLE.reward, 0.5))
    for beta, kl in ((0.0, KL()), (0.3, KL(where="loss"))):
        objective = changed(plain, beta=beta, kl=kl.model_dump())
        whole = ready(objective, equal)
        if beta == 0.0 and bool((whole.advantage != 0).any()):  # type: ignore[union-attr]
            continue  # without a baseline, or with a punishment of length, equal rewards still move
        weighed = [bool((whole.weight[whole.row == row] != 0).any()) for row in range(whole.rows)]  # type: ignore[index]
        assert objective.live(whole).tolist() == [bool(beta) and one for one in weighed]
