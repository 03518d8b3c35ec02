"""The batch: flat, in order, and the same in parts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from klimb.batch import Batch
from klimb.types import Completion, Finish, Group, Outcome, Prompt, Rollout, Score
from tests.training.toy import groups


def test_a_batch_is_flat_and_in_order() -> None:
    done = [Completion((5, 6), (-1.0, -2.0), "", Finish.EOS), Completion((7,), (-3.0,), "", Finish.LENGTH)]
    rollouts = (Rollout(done[0], 0, 0, {}, 1.0), Rollout(done[1], 1, 1, {}, None))
    batch = Batch.of(
        [
            Group(Prompt("a", text="", tokens=(1, 2, 3)), rollouts),
            Group(Prompt("b", text="", tokens=(4,)), rollouts[:1]),
        ]
    )
    assert batch.tokens.tolist() == [5, 6, 7, 5, 6]
    assert batch.row.tolist() == [0, 0, 1, 2, 2]
    assert batch.group.tolist() == [0, 0, 1]
    assert [prompt.tolist() for prompt in batch.prompts] == [[1, 2, 3], [4]]
    assert batch.scored.tolist() == [True, False, True]
    assert batch.learn.tolist() == [True, True, False, True, True], "a failed score carries no gradient"
    assert batch.truncated.tolist() == [False, True, False]
    assert batch.sampler is not None and batch.sampler.tolist() == [-1.0, -2.0, -3.0, -1.0, -2.0]
    assert batch.entropy is None, "entropies that some completions lack are not made up"


@given(st.integers(0, 5), st.integers(1, 60), st.integers(1, 5), st.integers(1, 6))
def test_parts_hold_every_row_once_in_order_within_the_budget(
    seed: int, budget: int, prompts: int, completions: int
) -> None:
    batch = Batch.of(groups(prompts, completions, seed))
    parts = list(batch.split(budget))
    assert torch.cat([part.tokens for part in parts]).tolist() == batch.tokens.tolist()
    assert torch.cat([part.lengths for part in parts]).tolist() == batch.lengths.tolist()
    asked = [part.prompts[g].tolist() for part in parts for g in part.group.tolist()]
    assert asked == [batch.prompts[g].tolist() for g in batch.group.tolist()]
    for part in parts:
        assert part.size == part.tokens.numel() + sum(prompt.numel() for prompt in part.prompts)
        assert part.size <= budget or part.rows == 1
        assert part.row.tolist() == sorted(part.row.tolist()) and part.group[0] == 0


def test_taking_rows_renumbers_rows_and_groups() -> None:
    batch = Batch.of(groups(3, 2))
    part = batch.take(torch.tensor([1, 4]))
    assert part.group.tolist() == [0, 1]
    assert part.prompts[1].tolist() == batch.prompts[2].tolist()
    assert part.tokens.tolist() == batch.tokens[(batch.row == 1) | (batch.row == 4)].tolist()
    assert part.reward.tolist() == [batch.reward[1].item(), batch.reward[4].item()]


def test_a_failure_is_never_a_number_and_a_number_never_a_failure() -> None:
    assert Score.of(float("nan")).outcome is Outcome.UNSCORABLE
    assert Score.of(float("inf")).value is None
    with pytest.raises(ValueError, match="finite number exactly when"):
        Score(Outcome.SCORED, float("nan"))
    with pytest.raises(ValueError, match="finite number exactly when"):
        Score(Outcome.TIMED_OUT, 0.0)
