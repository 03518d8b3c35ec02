"""A critic beside a selector: it learns at every token, with the weights that it has without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.objectives import PPO
from klimb.objectives.penalty import KL
from klimb.selection import Every, Selector, Top
from klimb.tracking.metrics import unknown
from klimb.training.base import Training, Truncate
from klimb.training.weighing import weigh
from tests.objectives.kit import named
from tests.objectives.test_ppo import now, valued
from tests.training.test_critic import learner
from tests.training.test_selecting import batch, run
from tests.training.test_selecting_kl import far

FORMS = [PPO(), PPO(value_clip=None), PPO(beta=0.3), PPO(beta=0.3, kl=KL(where="loss", estimator="k2"))]
each_form = pytest.mark.parametrize("objective", FORMS, ids=named)
each_choice = pytest.mark.parametrize(
    "choice", [{}, {"normaliser": "all"}, {"kl": "kept"}], ids=lambda c: "-".join(c.values()) or "default"
)


def slopes(objective: PPO, chosen: Batch, whole: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients with respect to log-probs and values."""
    logp, value = now(whole)
    loss = objective.loss(Outputs(logp, torch.zeros_like(logp), value), chosen).loss
    first, second = torch.autograd.grad(loss, (logp, value))
    return first, second


@each_form
@each_choice
def test_the_value_learns_from_dropped_tokens_what_it_learns_without_a_selector(
    objective: PPO, choice: dict[str, Any]
) -> None:
    whole = objective.advantage(valued(3).replace(entropy=torch.rand(valued(3).tokens.numel())))
    plain, chosen = (weigh(whole, objective, one) for one in (Every(), Top(share=0.2, **choice)))
    dropped = whole.learn & ~chosen.learn
    _, fitted = slopes(objective, plain, whole)
    policy, values = slopes(objective, chosen, whole)
    torch.testing.assert_close(values, fitted, rtol=1e-9, atol=1e-12)
    assert (values[dropped] != 0).any()
    pulled = objective.kl_place == "loss" and chosen.kl_weight is not None
    assert bool((policy[dropped] != 0).any()) == pulled
    assert (policy[~whole.learn] == 0).all() and (values[~whole.learn] == 0).all()


def one_step(selector: Selector, objective: PPO, **changes: Any) -> tuple[int, dict[str, float], torch.Tensor]:
    """How many rows one step runs, its metrics, and the change of the values."""
    made = learner(selector=selector, objective=objective, reference=far(), **changes)
    rows, real = list[int](), made.policy
    before = real.values.detach().clone()  # type: ignore[attr-defined]

    def counted(given: Batch) -> Outputs:
        rows.append(given.rows if torch.is_grad_enabled() else 0)
        return real(given)

    metrics = run(replace(made, policy=counted), batch(8)).metrics()
    assert unknown(metrics) == []
    return sum(rows), metrics, real.values.detach() - before  # type: ignore[attr-defined]


@each_form
@each_choice
def test_rows_without_a_kept_token_run_for_the_critic_whose_metrics_are_of_all_tokens(
    objective: PPO, choice: dict[str, Any]
) -> None:
    every, plain, _ = one_step(Every(), objective)
    rows, metrics, change = one_step(Top(share=0.02, **choice), objective)
    assert rows == every == batch(8).rows
    assert metrics["selection/share"] < 0.03
    for name in ("value/loss", "value/mean", "value/clip_share", "value/explained_variance"):
        assert metrics[name] == pytest.approx(plain[name], rel=1e-5, abs=1e-7), name
    assert (change != 0).sum() > 5


@each_form
def test_a_critic_beside_a_selector_is_the_same_in_one_part_and_in_many(objective: PPO) -> None:
    _, first, whole = one_step(Top(share=0.1), objective)
    _, second, parts = one_step(Top(share=0.1), objective, settings=Training(micro_tokens=30))
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-7)
    assert first == pytest.approx(second, rel=1e-4, abs=1e-6)


def test_an_importance_correction_weighs_the_critic_at_dropped_tokens_too() -> None:
    settings = [Training(micro_tokens=10_000, correction=Truncate(cap=cap)) for cap in (1.0, 5.0)]
    plain, selected = (
        [one_step(selector, PPO(), settings=one)[1]["value/loss"] for one in settings]
        for selector in (Every(), Top(share=0.1))
    )
    assert selected == pytest.approx(plain, rel=1e-5)
    assert abs(plain[0] / plain[1] - 1) > 0.01
