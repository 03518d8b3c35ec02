"""What is said of settings that make no sense: each part of each fault, and the bounds of what is carried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.objectives import DAPO, GRPO, Custom, Reinforce
from klimb.objectives.carried import Carried, Control, Refresh
from klimb.objectives.penalty import KL
from klimb.recipe import Recipe
from tests.faults.runs import SETTINGS


def test_a_weight_of_a_kl_in_the_reward_is_refused_with_its_cure() -> None:
    (fault,) = KL(where="reward", weighted="attached").faults()
    assert "kl.weighted=attached" in fault.asked
    assert fault.found.startswith("kl.where=reward")
    assert fault.cure == "kl.weighted=none, or kl.where=loss"
    assert KL(where="reward").faults() == KL(where="loss", weighted="attached").faults() == []


def test_a_punishment_that_no_answer_is_long_enough_for_is_refused() -> None:
    (fault,) = DAPO(buffer=6).idle(1018)
    assert fault.asked.startswith("punish answers of more than 1018 tokens (objective.length=1024, buffer=6)")
    assert (fault.found.split(":")[0], fault.cure.split(" ")[0]) == (
        "sampling.max_tokens=1018",
        "objective.length=1018",
    )
    assert DAPO(buffer=6).idle(1019) == DAPO().idle(9) == GRPO().idle(9) == []
    assert resolve(Recipe, SETTINGS | {"objective": {"type": "dapo", "length": 4, "buffer": 1}}).objective.idle(4) == []
    with pytest.raises(SettingsError, match="no answer is that long"):
        resolve(Recipe, SETTINGS | {"objective": {"type": "dapo", "buffer": 6}})


@pytest.mark.parametrize(
    ("kl", "name"),
    [
        (KL(control=Control(target=0.1)), "objective.kl.control.target"),
        (KL(refresh=Refresh(every=3)), "objective.kl.refresh"),
    ],
)
def test_what_steers_or_refreshes_no_kl_is_refused_by_its_name(kl: KL, name: str) -> None:
    (fault,) = GRPO(kl=kl).faults()
    assert (fault.asked, fault.found.split(":")[0]) == (f"{name} is set", "objective.beta=0")
    assert fault.cure.startswith("objective.beta=")
    assert GRPO(kl=kl, beta=0.1).faults() == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Reinforce(decay=1.0), lambda: Reinforce(decay=-0.1), lambda: Refresh(decay=1.0),
        lambda: Refresh(every=-1),
        lambda: Refresh(kappa=-0.1), lambda: Control(gain=0.0), lambda: Control(gain=1.5), lambda: Control(limit=0.0),
        lambda: Control(target=-1.0), lambda: GRPO(beta=-0.1),
    ],
)  # fmt: skip
def test_a_number_out_of_its_bounds_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match=r"less than|greater than"):
        wrong()


def test_only_what_is_in_use_is_carried() -> None:
    control, refresh = Control(target=0.2), Refresh(kappa=0.5)
    assert Carried.of(0.1, Control(), Refresh()) == Carried(0.1, None, None, None)
    assert Carried.of(0.1, control, refresh, 0.9) == Carried(0.1, control, refresh, 0.9)
    assert GRPO(kl=KL(control=control)).carried == Carried()
    assert GRPO(beta=0.3, kl=KL(control=control)).carried == Carried(0.3, control, None)
    assert Reinforce(baseline="moving", decay=0.7).carried.decay == 0.7
    assert Reinforce(baseline="group", decay=0.7).carried.decay is None


def test_a_users_objective_that_cannot_be_used_is_said_with_its_path_and_cure(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from klimb.objectives import RLOO\n\n\nclass Mine(RLOO):\n    size: int = 3\n", "utf-8")
    cases: list[tuple[str, dict[str, Any], list[str]]] = [
        (f"{file}:Mine", {"size": "x"}, ["size: ", "correct objective.settings"]),
        (f"{file}:None", {}, ["NoneType", "name a subclass"]),
        ("none.py:Mine", {}, ["no file 'none.py'", "relative to where klimb is started"]),
    ]
    for path, settings, says in cases:
        with pytest.raises(ValueError, match="cannot be used") as error:
            Custom(path=path, settings=settings)
        text = str(error.value)
        assert [word for word in [f"objective.path={path}", *says] if word not in text] == [], text
