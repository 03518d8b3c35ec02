"""The advantages that the proofs imply are those that the objectives make, on batches of two prompts."""

from __future__ import annotations

import numpy as np
import pytest

from klimb.objectives import DAPO, GRPO, RLOO, DrGRPO, Objective, Reinforce, ReinforcePP, ReinforcePPBaseline
from klimb.proving import Enumerable, world
from klimb.proving.credits import credited
from klimb.proving.makeup import makeup
from tests.objectives.kit import named

HERE = world("two prompts", Enumerable(words=3, length=2, prompts=2), 0.4)
BATCHES = [drawn for _, drawn in HERE.outcomes][::97]
FORMS = [
    *(Reinforce(baseline=baseline) for baseline in ("none", "batch", "group", "leave_one_out")),
    RLOO(), GRPO(), DrGRPO(length=3), DAPO(length=2, buffer=1), ReinforcePP(), ReinforcePPBaseline(),
]  # fmt: skip


@pytest.mark.parametrize("objective", FORMS, ids=named)
def test_they_are_those_of_the_objective(objective: Objective) -> None:
    differ = 0
    for drawn in BATCHES:
        made = objective.advantage(HERE.batch(drawn)).advantage
        assert made is not None
        found = np.concatenate(credited(makeup(objective), HERE, drawn))
        np.testing.assert_allclose(found, made.numpy(), rtol=1e-6, atol=1e-6)
        differ += len(set(found.round(6).tolist())) > 1
    assert differ > len(BATCHES) / 2, "in most batches there is something to compare"
