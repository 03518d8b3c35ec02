"""What holds for every objective, whatever its formula."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from klimb.objectives import DAPO, RPG, AnyObjective, DrGRPO, Objective
from klimb.proving.catalog import PLAIN
from klimb.proving.laws import add_up, any_order
from klimb.tracking.metrics import unknown
from tests.objectives.kit import (
    EVERY,
    FORMS,
    QUICK,
    batch,
    changed,
    moved,
    named,
    outputs,
    ready,
    update,
    without_clip,
    without_divergence,
)

FAST = (*QUICK, *PLAIN, *FORMS)
each_objective = pytest.mark.parametrize(
    "objective",
    [pytest.param(o, id=named(o), marks=() if o in FAST else pytest.mark.slow) for o in EVERY],
)
CLOSE = {"rel": 1e-12, "abs": 1e-13}


@each_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_parts_add_up_to_the_whole_in_loss_metrics_and_gradient(
    objective: Objective, seed: int, cuts: list[int]
) -> None:
    whole = ready(objective, batch(seed))
    labels = torch.tensor([cuts[row % len(cuts)] for row in range(whole.rows)])
    assert add_up(objective, whole, moved(whole, seed), labels)


@each_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_order_of_rows_and_groups_changes_nothing(objective: Objective, seed: int) -> None:
    whole = batch(seed)
    assert any_order(objective, whole, moved(whole, seed), seed)


@each_objective
def test_masked_tokens_carry_no_gradient_and_change_nothing(objective: Objective) -> None:
    whole = ready(objective, batch(3))
    logp = moved(whole)
    numbers, gradient = update(objective, whole, logp)
    assert (gradient[~whole.learn] == 0).all()
    assert (gradient[whole.learn] != 0).any()
    noise = torch.where(whole.learn, logp.detach(), logp.detach() - 5).requires_grad_()
    found, same = update(objective, whole, noise)
    assert found == numbers
    assert torch.equal(same, gradient)


@each_objective
def test_rows_without_a_score_carry_no_gradient_and_their_reward_changes_nothing(objective: Objective) -> None:
    whole = batch(5)
    assert not whole.scored.all()
    logp = moved(whole)
    numbers, gradient = update(objective, ready(objective, whole), logp)
    assert (gradient[~whole.scored[whole.row]] == 0).all()
    noise = torch.where(whole.scored, whole.reward, torch.full_like(whole.reward, 1e4))
    found, same = update(objective, ready(objective, whole.replace(reward=noise)), logp)
    assert found == numbers
    assert torch.equal(same, gradient)


@each_objective
def test_weights_sum_to_one_or_to_zero_where_nothing_learns(objective: Objective) -> None:
    whole = batch(2)
    total = 1.0
    if isinstance(objective, DrGRPO):  # its mean length over its constant
        total = float(whole.learn.sum() / whole.row[whole.learn].unique().numel() / objective.length)
    assert float(objective.weighting(whole).sum()) == pytest.approx(total, abs=1e-6)
    nothing = whole.replace(learn=torch.zeros_like(whole.learn))
    assert (objective.weighting(nothing) == 0).all()
    numbers, gradient = update(objective, ready(objective, nothing), moved(whole))
    assert set(numbers.values()) == {0.0}
    assert (gradient == 0).all()


@each_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), known=st.booleans())
def test_a_row_that_is_not_live_has_exactly_zero_gradient(objective: Objective, seed: int, known: bool) -> None:
    whole = ready(objective, batch(seed))
    logp = moved(whole, seed)
    whole = whole if known else whole.replace(old=None)
    _, gradient = update(objective, whole, logp)
    live = objective.live(whole)
    assert (gradient[~live[whole.row]] == 0).all()


@each_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), known=st.booleans())
def test_without_clip_every_live_row_has_a_gradient(objective: Objective, seed: int, known: bool) -> None:
    free = without_clip(objective)
    whole = ready(free, batch(seed))
    logp = moved(whole, seed)
    whole = whole if known else whole.replace(old=None)
    _, gradient = update(free, whole, logp)
    felt = torch.zeros(whole.rows, dtype=torch.float64).index_add(0, whole.row, gradient.abs()) > 0
    assert torch.equal(felt, free.live(whole))


@each_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_clip_share_is_the_weight_of_the_tokens_whose_gradient_the_clip_changed(
    objective: Objective, seed: int
) -> None:
    whole = ready(objective, batch(seed))
    assert whole.weight is not None
    logp = moved(whole, seed)
    numbers, gradient = update(objective, whole, logp)
    _, free = update(without_clip(objective), whole, logp)
    share = float(whole.weight[gradient != free].sum())
    assert numbers["policy/clip_share"] == pytest.approx(share, **CLOSE)


@each_objective
def test_equal_rewards_and_no_divergence_give_exactly_zero_gradient(objective: Objective) -> None:
    calm = without_divergence(objective)
    whole = batch(4)
    if isinstance(objective, DAPO) and objective.buffer:
        whole = whole.take(torch.nonzero(whole.lengths <= objective.length - objective.buffer).flatten())
    reward = 0.0 if getattr(objective, "baseline", "") in ("none", "moving") else 0.1
    whole = ready(calm, whole.replace(reward=torch.full_like(whole.reward, reward)))
    _, gradient = update(calm, whole, moved(whole))
    assert (gradient == 0).all()
    assert not calm.live(whole).any()


@pytest.mark.parametrize("form", [form for form in FORMS if form.divergence.startswith(("u", "j"))], ids=named)
def test_on_the_first_pass_the_unnormalised_forms_feel_no_divergence(form: RPG) -> None:
    first = batch(6).replace(old=None)
    logp = moved(batch(6))
    (_, calm), (_, strong) = (
        update(o, ready(o, first), logp) for o in (changed(form, beta=0.0), changed(form, beta=9.0))
    )
    torch.testing.assert_close(strong, calm, rtol=0, atol=1e-15)


@each_objective
def test_on_the_first_pass_old_is_now(objective: Objective) -> None:
    whole = ready(objective, batch(7))
    logp = moved(whole)
    first, gradient = update(objective, whole.replace(old=None), logp)
    given_old, same = update(objective, whole.replace(old=logp.detach()), logp)
    assert first == given_old
    assert torch.equal(gradient, same)
    assert whole.weight is not None
    assert first["policy/ratio"] == pytest.approx(float(whole.weight.sum()), abs=1e-12)
    assert first["policy/kl_old"] == first["policy/clip_share"] == 0.0


@each_objective
@settings(max_examples=10, deadline=None)
@given(gaps=st.lists(st.floats(-80, 80), min_size=1, max_size=9), single=st.booleans())
def test_extreme_log_ratios_never_give_what_is_not_finite(
    objective: Objective, gaps: list[float], single: bool
) -> None:
    whole = ready(objective, batch(8))
    assert whole.old is not None
    dtype = torch.float32 if single else torch.float64
    gap = torch.tensor([gaps[i % len(gaps)] for i in range(len(whole.old))], dtype=dtype)
    names = ("reward", "advantage", "old", "ref", "weight")
    whole = whole.replace(**{name: getattr(whole, name).to(dtype) for name in names})
    whole = whole.replace(ref=whole.old.to(dtype) - gap.flip(0))
    numbers, gradient = update(objective, whole, (whole.old.to(dtype) + gap).requires_grad_())
    assert torch.isfinite(torch.tensor(list(numbers.values()), dtype=torch.float64)).all()
    assert torch.isfinite(gradient).all()


@each_objective
def test_settings_survive_a_json_round_trip(objective: Objective) -> None:
    text = objective.model_dump_json()
    back: Objective = TypeAdapter(AnyObjective).validate_python(json.loads(text))
    assert back == objective
    assert type(back) is type(objective)
    assert back.model_dump_json() == text


@each_objective
def test_metrics_are_in_the_glossary_and_detached(objective: Objective) -> None:
    whole = ready(objective, batch(9))
    terms = objective.loss(outputs(moved(whole)), whole)
    assert {"policy/ratio", "policy/kl_old", "policy/clip_share"} <= set(terms.metrics)
    assert ("policy/kl_ref" in terms.metrics) is objective.refers
    assert unknown(terms.metrics) == []
    assert not any(value.requires_grad for value in terms.metrics.values())
