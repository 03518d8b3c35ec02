"""What an objective says of itself: what it reads, compares and needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from klimb.objectives import (
    DPO,
    GRPO,
    PPO,
    RPG,
    TOPR,
    BradleyTerry,
    Custom,
    Objective,
    Reinforce,
    ReinforcePP,
    ReinforcePPBaseline,
)
from klimb.objectives.carried import Control
from klimb.objectives.critics import ValueModel
from klimb.selection import Every, Top
from klimb.training.weighing import weigh
from tests.objectives.kit import EVERY, batch, moved, update


@pytest.mark.parametrize(
    ("objective", "reads"),
    [
        (GRPO(), (False, False, True)),
        (DPO(), (False, False, True)),
        (PPO(), (True, True, True)),
        (PPO(trunk=False), (True, True, True)),
        (BradleyTerry(), (True, False, False)),
    ],
)
def test_an_objective_says_what_it_reads_of_the_model(objective: Objective, reads: tuple[bool, bool, bool]) -> None:
    assert (objective.critic, objective.reads_value, objective.reads_logp) == reads


def test_a_critic_of_its_own_is_named_by_the_objective_that_has_one(tmp_path: Path) -> None:
    own = ValueModel()
    assert PPO(value=own).value_model is own
    assert (PPO().value_model, GRPO().value_model) == (None, None)
    (tmp_path / "mine.py").write_text("from klimb.objectives import PPO\n\n\nclass Mine(PPO):\n    pass\n", "utf-8")
    mine = Custom(path=f"{tmp_path / 'mine.py'}:Mine", settings={"value": {"type": "model"}})
    assert (mine.value_model, mine.reads_value) == (own, True)


def test_some_compare_prompts_and_some_the_answers_to_one() -> None:
    assert all(one.beyond_group for one in (PPO(), ReinforcePP(), ReinforcePPBaseline(), Reinforce(baseline="moving")))
    assert not any(
        one.beyond_group for one in (GRPO(), Reinforce(baseline="group"), Reinforce(baseline="leave_one_out"))
    )
    assert TOPR().minimum_group == 2


def test_a_controller_whose_factor_could_be_zero_is_a_fault() -> None:
    (fault,) = Control(target=0.1, gain=1.0, limit=1.0).faults()
    assert "it stays 0" in fault.found
    assert Control(target=0.1, gain=1.0, limit=0.99).faults() == []
    with pytest.raises(ValueError, match="span"):
        Control(span=1.0)


def test_a_kl_outside_the_clip_holds_the_tokens_that_a_selector_drops() -> None:
    objective = next(one for one in EVERY if isinstance(one, RPG) and one.kl_place == "loss")
    whole = objective.advantage(batch(3).replace(entropy=torch.rand(batch(3).tokens.numel())))
    chosen, plain = weigh(whole, objective, Top(share=0.4)), weigh(whole, objective, Every())
    none = objective.model_copy(update={"beta": 0.0})
    slopes = [update(one, given, moved(whole))[1] for given in (plain, chosen) for one in (objective, none)]
    torch.testing.assert_close(slopes[2] - slopes[3], slopes[0] - slopes[1], rtol=1e-6, atol=1e-9)
