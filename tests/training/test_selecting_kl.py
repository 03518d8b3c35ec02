"""A KL in the loss beside a selector: on all tokens that could learn, or on those that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.objectives import GRPO, RPG, Objective
from klimb.selection import Every, Selector, Top
from klimb.tracking.metrics import unknown
from klimb.training.base import Training
from klimb.training.weighing import weigh
from tests.objectives.kit import EVERY, moved, named, update
from tests.objectives.kit import batch as objective_batch
from tests.training.test_selecting import batch, learner, run
from tests.training.toy import Bigram


@pytest.mark.parametrize("objective", [o for o in EVERY if o.kl_place == "loss"], ids=named)
@pytest.mark.parametrize("normaliser", ["kept", "all"])
def test_a_dropped_token_feels_the_kl_alone_as_it_does_without_a_selector(
    objective: Objective, normaliser: Any
) -> None:
    whole = objective.advantage(objective_batch(3).replace(entropy=torch.rand(objective_batch(3).tokens.numel())))
    chosen = weigh(whole, objective, Top(share=0.4, normaliser=normaliser))
    plain = weigh(whole, objective, Every())
    none = objective.model_copy(update={"beta": 0.0})
    slopes = [update(one, batch, moved(whole))[1] for batch in (plain, chosen) for one in (objective, none)]
    torch.testing.assert_close(slopes[2] - slopes[3], slopes[0] - slopes[1], rtol=1e-6, atol=1e-9)
    dropped = ~chosen.learn & whole.learn
    assert (slopes[3][dropped] == 0).all() and (slopes[2][dropped] != 0).any()


def far() -> Bigram:
    """A reference that is not where the policy begins."""
    policy = Bigram()
    with torch.no_grad():
        policy.table.mul_(0.5)
    return policy


def trained_rows(selector: Selector, objective: Objective) -> tuple[int, dict[str, float], torch.Tensor]:
    """How many rows one step runs, its metrics, and the weights after it."""
    made, rows = learner(selector, objective, reference=far()), list[int]()
    real: Callable[[Batch], Outputs] = made.policy
    counted = replace(made, policy=lambda given: rows.append(given.rows) or real(given))  # type: ignore[func-returns-value]
    metrics = run(counted, batch(8)).metrics()
    return sum(rows), metrics, made.policy.table.detach()


@pytest.mark.parametrize("normaliser", ["kept", "all"])
@pytest.mark.parametrize("objective", [GRPO(beta=0.1), RPG(beta=0.1, reference="initial", kl="outside")])
def test_rows_without_a_kept_token_run_for_a_kl_on_all_tokens_which_is_told_of_all(
    objective: Objective, normaliser: Any
) -> None:
    rows, metrics, table = trained_rows(Top(share=0.02, normaliser=normaliser), objective)
    every, plain, _ = trained_rows(Every(), objective)
    few, kept, other = trained_rows(Top(share=0.02, normaliser=normaliser, kl="kept"), objective)
    assert few < rows == every == batch(8).rows
    assert metrics["policy/kl_ref"] == pytest.approx(plain["policy/kl_ref"], rel=1e-5)
    assert abs(kept["policy/kl_ref"] / plain["policy/kl_ref"] - 1) > 0.01
    assert metrics["selection/share"] == kept["selection/share"] < 0.03
    assert not torch.equal(table, other)
    assert unknown(metrics) == []


def test_a_kl_on_all_tokens_is_the_same_in_one_part_and_in_many() -> None:
    selector, objective = Top(share=0.1), GRPO(beta=0.1)
    one, many = (learner(selector, objective, reference=far(), settings=Training(micro_tokens=n)) for n in (10_000, 30))
    first, second = run(one, batch(8)).metrics(), run(many, batch(8)).metrics()
    torch.testing.assert_close(one.policy.table, many.policy.table, rtol=1e-6, atol=1e-7)
    assert first == pytest.approx(second, rel=1e-5, abs=1e-6)
