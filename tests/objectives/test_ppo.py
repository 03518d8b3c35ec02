"""PPO with a critic: its formula written as loops, the laws of every objective with values, and where the reward is."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from klimb.batch import Batch, Outputs
from klimb.objectives import GRPO, PPO, AnyObjective, Custom, Objective
from klimb.objectives.penalty import KL
from klimb.tracking.metrics import unknown
from klimb.types import Completion, Finish, Group, Prompt, Rollout
from tests.objectives.kit import batch, moved, named, parts_of, ready, reordered

FORMS = [
    PPO(),
    PPO(value_clip=None, whiten=False),
    PPO(gamma=0.9, lam=0.5, value_weight=1.0, eps_high=0.28, value_clip=0.05),
    PPO(gamma=0.9, lam=0.5, beta=0.3),
    PPO(beta=0.3, kl=KL(where="loss", estimator="k2")),
]
each_form = pytest.mark.parametrize("objective", FORMS, ids=named)


def valued(seed: int, **changes: bool) -> Batch:
    """A random batch with old values."""
    whole = batch(seed, **changes)
    draw = torch.Generator().manual_seed(seed + 1000)
    return whole.replace(value=torch.randn(len(whole.row), generator=draw, dtype=torch.float64))


def now(whole: Batch, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and values of a policy that has moved: two leaves."""
    draw = torch.Generator().manual_seed(seed + 2000)
    assert whole.value is not None
    step = torch.randn(len(whole.row), generator=draw, dtype=torch.float64) * 0.3
    return moved(whole, seed), (whole.value + step).requires_grad_()


def update(
    objective: Objective, whole: Batch, logp: torch.Tensor, value: torch.Tensor
) -> tuple[dict[str, float], torch.Tensor, torch.Tensor]:
    """Loss and metrics, and the gradients with respect to log-probs and values."""
    terms = objective.loss(Outputs(logp, torch.zeros_like(logp), value), whole)
    first, second = torch.autograd.grad(terms.loss, (logp, value))
    return {"loss": float(terms.loss.detach()), **{k: float(v) for k, v in terms.metrics.items()}}, first, second


@each_form
def test_it_is_the_papers_sum_written_as_loops(objective: PPO) -> None:
    whole = ready(objective, valued(11))
    logp, value = now(whole)
    assert whole.old is not None and whole.value is not None
    assert whole.ref is not None
    p, rewards, old_gap = objective, whole.reward.numpy(), (whole.old - whole.ref).numpy()
    toll = p.beta * old_gap if p.kl.where == "reward" else np.zeros_like(old_gap)
    advantages, targets = np.zeros(len(whole.row)), np.zeros(len(whole.row))
    for row in range(whole.rows):
        learning = [t for t in range(len(whole.row)) if whole.row[t] == row and whole.learn[t]]
        following, carried, reward = 0.0, 0.0, rewards[row]
        for t in reversed(learning):
            v = float(whole.value[t])
            carried = reward - toll[t] + p.gamma * following - v + p.gamma * p.lam * carried
            advantages[t], targets[t] = carried, carried + v
            following, reward = v, 0.0
    learn = whole.learn.numpy()
    if p.whiten:
        advantages = (advantages - advantages[learn].mean()) / advantages[learn].std()
    ratio = np.exp((logp.detach() - whole.old).numpy())
    gain = np.minimum(ratio * advantages, np.clip(ratio, 1 - p.eps_low, 1 + p.eps_high) * advantages)
    v, old = value.detach().numpy(), whole.value.numpy()
    near = v if p.value_clip is None else old + np.clip(v - old, -p.value_clip, p.value_clip)
    fit = 0.5 * np.maximum((v - targets) ** 2, (near - targets) ** 2)
    held = (logp.detach() - whole.ref).numpy() ** 2 / 2 if p.kl.where == "loss" else 0.0
    numbers, _, _ = update(objective, whole, logp, value)
    assert numbers["loss"] == pytest.approx((-gain + p.value_weight * fit + p.beta * held)[learn].mean(), rel=1e-6)
    assert numbers["value/loss"] == pytest.approx(fit[learn].mean(), rel=1e-6)
    assert numbers["value/mean"] == pytest.approx(v[learn].mean(), rel=1e-6)


@each_form
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_parts_add_up_in_loss_metrics_and_both_gradients(objective: PPO, seed: int, cuts: list[int]) -> None:
    whole = ready(objective, valued(seed))
    logp, value = now(whole, seed)
    numbers, first, second = update(objective, whole, logp, value)
    sums, pieces = dict.fromkeys(numbers, 0.0), [torch.zeros_like(first), torch.zeros_like(second)]
    for rows in parts_of(whole, cuts):
        inside = torch.isin(whole.row, rows)
        leaves = [leaf.detach()[inside].requires_grad_() for leaf in (logp, value)]
        found, *gradients = update(objective, whole.take(rows), *leaves)
        sums = {name: sums[name] + number for name, number in found.items()}
        for piece, gradient in zip(pieces, gradients, strict=True):
            piece[inside] = gradient
    assert sums == pytest.approx(numbers, rel=1e-12, abs=1e-13)
    torch.testing.assert_close(pieces, [first, second], rtol=1e-12, atol=1e-14)


@each_form
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_order_of_rows_and_groups_changes_nothing(objective: PPO, seed: int) -> None:
    whole = valued(seed)
    other, tokens = reordered(whole, seed)
    assert whole.value is not None
    other = other.replace(value=whole.value[tokens])
    logp, value = now(whole, seed)
    numbers, first, second = update(objective, ready(objective, whole), logp, value)
    leaves = [leaf.detach()[tokens].requires_grad_() for leaf in (logp, value)]
    found, *gradients = update(objective, ready(objective, other), *leaves)
    assert found == pytest.approx(numbers, rel=1e-12, abs=1e-13)
    torch.testing.assert_close(gradients, [first[tokens], second[tokens]], rtol=1e-10, atol=1e-14)


@each_form
def test_masked_tokens_and_rows_without_a_score_carry_no_gradient_and_change_nothing(objective: PPO) -> None:
    whole = valued(5)
    assert not whole.scored.all()
    logp, value = now(whole)
    numbers, *gradients = update(objective, ready(objective, whole), logp, value)
    assert all((gradient[~whole.learn] == 0).all() for gradient in gradients)
    assert all((gradient[whole.learn] != 0).any() for gradient in gradients)
    noisy = whole.replace(
        reward=torch.where(whole.scored, whole.reward, torch.full_like(whole.reward, 1e4)),
        value=torch.where(whole.learn, whole.value, torch.full_like(whole.value, 1e4)),  # type: ignore[arg-type]
    )
    found, *same = update(objective, ready(objective, noisy), logp, value)
    assert found == numbers
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))


@each_form
def test_every_row_that_learns_is_live_and_no_other_has_a_gradient(objective: PPO) -> None:
    whole = ready(objective, valued(4))
    logp, value = now(whole)
    _, first, second = update(objective, whole, logp, value)
    live = objective.live(whole)
    assert torch.equal(live, torch.zeros(whole.rows).index_add(0, whole.row, whole.learn.float()) > 0)
    assert (first[~live[whole.row]] == 0).all() and (second[~live[whole.row]] == 0).all()


@settings(max_examples=20, deadline=None)
@given(gaps=st.lists(st.floats(-80, 80), min_size=1, max_size=9), size=st.floats(-1e15, 1e15))
def test_extreme_log_ratios_and_values_never_give_what_is_not_finite(gaps: list[float], size: float) -> None:
    whole = valued(8)
    assert whole.value is not None and whole.old is not None
    whole = ready(PPO(), whole.replace(value=whole.value * size))
    gap = torch.tensor([gaps[i % len(gaps)] for i in range(len(whole.row))], dtype=torch.float64)
    value = (whole.value + gap * size).requires_grad_()  # type: ignore[operator]
    numbers, *gradients = update(PPO(), whole, (whole.old + gap).requires_grad_(), value)  # type: ignore[operator]
    assert np.isfinite(list(numbers.values())).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_on_the_first_pass_no_value_is_clipped_and_its_gradient_is_the_distance_from_the_return() -> None:
    objective = PPO(value_weight=1.0)
    whole = ready(objective, valued(7))
    assert whole.value is not None and whole.returns is not None and whole.weight is not None
    value = whole.value.clone().requires_grad_()
    numbers, _, gradient = update(objective, whole.replace(old=None), moved(whole), value)
    torch.testing.assert_close(gradient, whole.weight * (whole.value - whole.returns))
    assert numbers["value/clip_share"] == numbers["policy/clip_share"] == 0.0
    assert numbers["policy/ratio"] == pytest.approx(1.0, abs=1e-6)


def test_beside_a_selector_the_critic_has_its_own_weight_of_every_token() -> None:
    objective = PPO(value_weight=0.3)
    whole = ready(objective, valued(7))
    assert whole.value is not None and whole.returns is not None and whole.weight is not None
    kept = whole.replace(weight=whole.weight * (torch.arange(len(whole.row)) % 3 == 0), whole=whole.weight)
    value = whole.value.clone().requires_grad_()
    numbers, _, gradient = update(objective, kept.replace(old=None), moved(whole), value)
    torch.testing.assert_close(gradient, 0.3 * whole.weight * (whole.value - whole.returns))
    fit = 0.5 * (whole.value - whole.returns).square()
    gain = (kept.weight * whole.advantage).sum()  # type: ignore[operator]
    assert numbers["loss"] == pytest.approx(float(0.3 * (whole.weight * fit).sum() - gain), rel=1e-6)


def test_the_value_clip_share_is_the_weight_of_the_tokens_without_a_value_gradient() -> None:
    objective = PPO(value_clip=0.05)
    whole = ready(objective, valued(9))
    assert whole.weight is not None
    numbers, _, gradient = update(objective, whole, *now(whole))
    assert 0 < numbers["value/clip_share"] < 1
    assert numbers["value/clip_share"] == pytest.approx(float(whole.weight[gradient == 0].sum()), rel=1e-12)


@pytest.mark.parametrize("finish", [Finish.EOS, Finish.STOP, Finish.LENGTH], ids=lambda f: f.value)
def test_the_reward_sits_on_the_last_real_token_however_the_answer_ended(finish: Finish) -> None:
    tokens = {Finish.EOS: (5, 6, 2), Finish.STOP: (5, 6), Finish.LENGTH: (5, 6, 7, 8)}[finish]
    rows = [tokens, (9,), tokens[:2]]
    done = [Completion(t, (-1.0,) * len(t), "", finish, (1.0,) * len(t)) for t in rows]
    rewards = (3.0, 5.0, None)
    rollouts = tuple(Rollout(c, k, k, {}, r) for k, (c, r) in enumerate(zip(done, rewards, strict=True)))
    whole = Batch.of([Group(Prompt("a", text="", tokens=(1,)), rollouts)])
    value = torch.linspace(0.1, 0.7, len(whole.tokens))
    found = PPO(lam=0.0, whiten=False).advantage(whole.replace(value=value))
    last = len(tokens) - 1
    wanted = [*(value[1 : last + 1] - value[:last]).tolist(), 3.0 - float(value[last]), 5.0 - float(value[last + 1])]
    assert found.advantage is not None and found.returns is not None
    assert found.advantage.tolist() == pytest.approx([*wanted, 0.0, 0.0], abs=1e-6)
    assert found.returns[last].item() == pytest.approx(3.0), "no value is added after the end, cut off or not"


def test_it_learns_from_one_answer_a_prompt_and_asks_for_a_critic() -> None:
    assert PPO().minimum_group == 1
    assert (PPO().critic, PPO().moves_trunk, PPO(trunk=False).moves_trunk) == (True, True, False)
    assert (GRPO().critic, GRPO().moves_trunk, PPO().refers) == (False, True, False)


def test_an_objective_of_ones_own_may_have_a_critic(tmp_path: pytest.TempPathFactory) -> None:
    mine = tmp_path / "mine.py"  # type: ignore[operator]
    mine.write_text(
        "from klimb.objectives.base import Objective\n\n\nclass Mine(Objective):\n"
        "    critic = property(lambda self: True)\n    moves_trunk = property(lambda self: False)\n"
    )
    custom = Custom(path=f"{mine}:Mine")
    assert (custom.critic, custom.moves_trunk) == (True, False)


def test_values_that_are_not_there_are_named() -> None:
    whole = ready(PPO(), valued(1))
    logp, value = now(whole)
    with pytest.raises(ValueError, match="Batch has no `value`"):
        PPO().advantage(whole.replace(value=None))
    with pytest.raises(ValueError, match="Outputs has no `value`"):
        PPO().loss(Outputs(logp, value), whole)
    with pytest.raises(ValueError, match="Batch has no `returns`"):
        PPO().loss(Outputs(logp, value, value), whole.replace(returns=None))


@each_form
def test_settings_survive_a_json_round_trip_and_metrics_are_in_the_glossary(objective: PPO) -> None:
    back = TypeAdapter(AnyObjective).validate_python(json.loads(objective.model_dump_json()))
    assert back == objective and type(back) is PPO
    whole = ready(objective, valued(2))
    logp, value = now(whole)
    terms = objective.loss(Outputs(logp, value.detach(), value), whole)
    wanted = {"policy/ratio", "policy/kl_old", "policy/clip_share", "value/loss", "value/clip_share", "value/mean"}
    sides = {f"policy/clip_{side}_{sign}" for side in ("above", "below") for sign in ("good", "bad")}
    assert set(terms.metrics) == wanted | sides | ({"policy/kl_ref"} if objective.beta else set())
    assert unknown(terms.metrics) == []
    assert not any(number.requires_grad for number in terms.metrics.values())
