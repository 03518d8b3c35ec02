"""Each objective against its own formula, written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from klimb import functional as F
from klimb.batch import Batch
from klimb.objectives import (
    GRPO,
    RPG,
    Objective,
    Reinforce,
)
from tests.objectives.kit import FORMS, batch, changed, moved, named, outputs, ready, update


def row_of(batch: Batch, values: torch.Tensor, row: int) -> np.ndarray:
    return values.detach()[batch.row == row].numpy()


def test_grpo_is_the_papers_sum_written_as_loops() -> None:
    objective = GRPO(eps_low=0.2, eps_high=0.3, beta=0.1)
    whole = ready(objective, batch(11))
    logp = moved(whole)
    assert whole.old is not None
    assert whole.ref is not None
    total, rows = 0.0, 0
    for row in range(whole.rows):
        learn = row_of(whole, whole.learn, row)
        if not learn.any():
            continue
        rows += 1
        mine = whole.reward[whole.scored & (whole.group == whole.group[row].item())].numpy()
        spread = mine.std(ddof=1) if len(mine) > 1 else 0.0
        a = (float(whole.reward[row]) - mine.mean()) / (spread + 1e-6)
        now, old, ref = (row_of(whole, values, row) for values in (logp, whole.old, whole.ref))
        w = np.exp(now - old)
        gain = np.minimum(w * a, np.clip(w, 0.8, 1.3) * a)
        k3 = np.exp(ref - now) - (ref - now) - 1
        total += (gain - 0.1 * k3)[learn].mean()
    numbers, _ = update(objective, whole, logp)
    # Weights are made in single precision.
    assert numbers["loss"] == pytest.approx(-total / rows, rel=1e-6)


@pytest.mark.parametrize("reference", ["old", "initial"])
@pytest.mark.parametrize("form", FORMS, ids=named)
def test_rpg_is_the_reference_pseudo_code_written_as_loops(form: RPG, reference: str) -> None:
    objective = changed(form, reference=reference, beta=0.3)
    whole = ready(objective, batch(12))
    logp = moved(whole, scale=1.0)
    assert whole.old is not None
    assert whole.ref is not None
    assert whole.advantage is not None
    learn = [t for t in range(len(whole.row)) if whole.learn[t]]
    loss, clipped, gradient = 0.0, 0, np.zeros(len(whole.row))
    for t in learn:
        now, old, a = float(logp.detach()[t]), float(whole.old[t]), float(whole.advantage[t])
        ref = old if reference == "old" else float(whole.ref[t])
        lw, lu = now - old, ref - old
        w, u = math.exp(lw), math.exp(lu)
        k = {
            "fkl": u,
            "ufkl": -(w - u),
            "rkl": -w * (lw - lu + 1),
            "urkl": -w * (lw - lu),
            "jeffreys": u - w * (lw - lu + 1),
        }[form.divergence]
        if form.form == "reinforce":
            weight = w * a + 0.3 * k
            live = w < 1.28 if weight >= 0 else 0.8 < w < 10
            loss += -weight * now if live else 0.0
            slope = -weight if live else 0.0
            cut = not live
        else:
            bound = min(w, 1.28) if a >= 0 else min(max(w, 0.8), 10.0)
            kl = {
                "fkl": u * (lu - lw),
                "ufkl": u * (lu - lw) + w - u,
                "rkl": w * (lw - lu),
                "urkl": w * (lw - lu) + u - w,
                "jeffreys": (u - w) * (lu - lw),
            }[form.divergence]
            loss += -bound * a + 0.3 * kl
            slope = (-w * a if bound == w else 0.0) - 0.3 * k
            cut = bound != w and a != 0
        clipped += cut
        gradient[t] = slope / len(learn)
    numbers, found = update(objective, whole, logp)
    assert clipped > 0, "some ratio left its interval"
    assert numbers["loss"] == pytest.approx(loss / len(learn), rel=1e-6)
    assert numbers["policy/clip_share"] == pytest.approx(clipped / len(learn), rel=1e-6)
    np.testing.assert_allclose(found, gradient, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_metrics_say_how_far_the_policy_is_from_each_of_the_others(level: str) -> None:
    objective = RPG(divergence="rkl", reference="initial", beta=0.2, level=level)  # type: ignore[arg-type]
    whole = ready(objective, batch(19))
    logp = moved(whole)
    numbers, _ = update(objective, whole, logp)
    assert whole.old is not None
    assert whole.ref is not None
    assert whole.weight is not None
    weight, now = whole.weight, logp.detach()
    lw, lr = now - whole.old, now - whole.ref
    k3 = {"policy/kl_old": lw.exp() - 1 - lw, "policy/kl_ref": (-lr).exp() - 1 + lr}
    if level == "sequence":
        lw, lr = (F.segments.sum_over_row(x, whole.learn, whole.row, whole.rows) for x in (lw, lr))
    expected = k3 | {"policy/ratio": lw.exp(), "objective/kl_force": 0.2 * (lw.exp() * (lr + 1)).abs()}
    for name, values in expected.items():
        assert numbers[name] == pytest.approx(float((weight * values).sum()), rel=1e-9), name


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("reference", ["old", "initial"])
@pytest.mark.parametrize("divergence", ["fkl", "rkl", "ufkl", "urkl"])
def test_the_two_forms_have_the_same_gradient_for_every_sample(divergence: str, reference: str, level: str) -> None:
    common = {"divergence": divergence, "reference": reference, "level": level, "clip": "none", "beta": 0.7}
    one, other = (RPG.model_validate(common | {"form": form}) for form in ("differentiable", "reinforce"))
    whole = ready(one, batch(13))
    logp = moved(whole)
    torch.testing.assert_close(update(one, whole, logp)[1], update(other, whole, logp)[1], rtol=1e-12, atol=1e-14)


def test_the_divergence_stays_outside_the_clip_in_the_differentiable_form_and_inside_in_the_other() -> None:
    whole = batch(14, unscored=False)
    one = torch.ones_like(whole.row, dtype=torch.float64)
    whole = whole.replace(advantage=one, weight=one / len(one), learn=one > 0)
    assert whole.old is not None
    logp = (whole.old + 1.0).requires_grad_()  # every ratio is e, above 1.28
    _, outside = update(RPG(form="differentiable", divergence="urkl", beta=0.1), whole, logp)
    _, inside = update(RPG(form="reinforce", divergence="urkl", beta=0.1), whole, logp)
    torch.testing.assert_close(outside, 0.1 * math.e * one / len(one))
    assert (inside == 0).all()


def test_the_reinforce_clip_looks_at_the_regularised_advantage_not_at_the_advantage() -> None:
    whole = batch(15, unscored=False)
    one = torch.ones_like(whole.row, dtype=torch.float64)
    whole = whole.replace(advantage=0.1 * one, weight=one / len(one), learn=one > 0)
    assert whole.old is not None
    logp = (whole.old + 1.0).requires_grad_()  # A' = 0.1 - 0.5 < 0: pushed down although A > 0, so still live
    _, gradient = update(RPG(divergence="urkl", beta=0.5), whole, logp)
    torch.testing.assert_close(gradient, math.e * 0.4 * one / len(one))


@pytest.mark.parametrize("baseline", ["none", "batch", "group", "leave_one_out"])
def test_reinforce_weighs_each_tokens_score_by_ratio_and_advantage(baseline: str) -> None:
    objective = Reinforce(baseline=baseline)  # type: ignore[arg-type]
    whole = ready(objective, batch(16))
    logp = moved(whole)
    assert whole.old is not None
    assert whole.advantage is not None
    count = int(whole.learn.sum())
    expected = torch.where(whole.learn, -(logp - whole.old).exp() * whole.advantage / count, 0.0)
    torch.testing.assert_close(update(objective, whole, logp)[1], expected.detach(), rtol=1e-6, atol=1e-12)
    rewards = whole.reward[whole.scored]
    if baseline == "none":
        assert whole.advantage[whole.row == 0][0] == whole.reward[0] * whole.scored[0]
    if baseline == "batch":
        row = int(torch.nonzero(whole.scored)[0])
        torch.testing.assert_close(whole.advantage[whole.row == row][0], whole.reward[row] - rewards.mean())


def test_an_objective_that_says_nothing_else_weighs_every_token_the_same() -> None:
    whole = batch(18)
    assert torch.equal(Objective().weighting(whole), whole.learn / whole.learn.sum())
    assert Objective().needs == {"groups"}
    assert (Objective().minimum_group, Objective().refers) == (1, False)


def test_an_objective_that_compares_within_a_group_asks_for_two_answers_a_prompt() -> None:
    assert GRPO().minimum_group == RPG().minimum_group == Reinforce(baseline="leave_one_out").minimum_group == 2
    assert Reinforce(baseline="none").minimum_group == Reinforce(baseline="batch").minimum_group == 1


def test_the_reference_is_asked_for_exactly_when_a_divergence_to_it_has_weight() -> None:
    assert not GRPO().refers
    assert GRPO(beta=0.01).refers
    assert not RPG(beta=1.0).refers
    assert RPG(beta=1.0, reference="initial").refers
    assert not RPG(beta=0.0, reference="initial").refers
    assert not Reinforce().refers


@pytest.mark.parametrize("name", ["advantage", "weight", "ref"])
def test_a_field_that_was_not_filled_is_named(name: str) -> None:
    objective = GRPO(beta=0.1)
    whole = ready(objective, batch(1)).replace(**{name: None})
    with pytest.raises(ValueError, match=f"no `{name}`"):
        objective.loss(outputs(moved(whole)), whole)
