"""Objectives from a user's own file."""

from __future__ import annotations

from pathlib import Path
from types import FunctionType

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from klimb.objectives import AnyObjective, Custom, Objective, Reinforce
from klimb.objectives.carried import Carried
from tests.objectives.kit import batch, moved, ready, update

MINE = """
from __future__ import annotations
from typing import TYPE_CHECKING, Annotated, ClassVar
from pydantic import Field
from klimb import functional as F
from klimb.objectives.base import given, live_rows, spread, terms
from klimb.objectives.base import Objective
if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask

class Mine(Objective):
    minimum_group: ClassVar[int] = 3
    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"groups", "labels"})
    gain: Annotated[float, Field(gt=0)] = 1.0
    @property
    def refers(self) -> bool:
        return self.gain > 5
    def advantage(self, batch: Batch) -> Batch:
        rewards = batch.reward, batch.scored, batch.group
        return spread(batch, self.gain * F.advantage.group_mean(*rewards, len(batch.prompts)))
    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.row_mean(batch.learn, batch.row, batch.rows)
    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=False)
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return terms(batch, -given(batch, "advantage") * now.logp, {})

nothing = 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_a_users_own_objective_is_used_by_its_file_and_name(mine: Path) -> None:
    custom: Objective = TypeAdapter(AnyObjective).validate_python(
        {"type": "custom", "path": f"{mine}:Mine", "settings": {"gain": 2.0}}
    )
    assert (custom.minimum_group, custom.needs, custom.refers) == (3, {"groups", "labels"}, False)
    assert custom.beyond_group is Custom(path=f"{mine}:Mine", settings={"gain": 6.0}).beyond_group is False
    assert (custom.reads_old, custom.carried) == (False, Carried())
    assert Custom(path=f"{mine}:Mine", settings={"gain": 6.0}).refers
    whole = ready(custom, batch(17))
    plain = Reinforce(level="sequence")
    assert torch.equal(custom.live(whole), plain.live(ready(plain, whole)))
    logp = moved(whole)
    _, gradient = update(custom, whole, logp)
    first = ready(plain, whole.replace(old=None))
    per_row = plain.weighting(whole)
    assert first.advantage is not None
    torch.testing.assert_close(gradient, -2 * first.advantage * per_row, rtol=1e-6, atol=1e-12)
    assert TypeAdapter(AnyObjective).validate_json(custom.model_dump_json()) == custom


CRITIC = """
from klimb.objectives import PPO

class Mine(PPO):
    @property
    def reads_value(self) -> bool:
        return False

    @property
    def reads_divergence(self) -> bool:
        return True
"""


def test_whatever_an_objective_may_say_is_asked_of_the_users_own(tmp_path: Path) -> None:
    asked = {name for name, value in vars(Objective).items() if isinstance(value, (property, FunctionType))}
    public = {name for name in asked if not name.startswith("_")}
    assert len(public) >= 15
    assert public - set(vars(Custom)) == set()
    (tmp_path / "mine.py").write_text(CRITIC, "utf-8")
    custom = Custom(path=f"{tmp_path / 'mine.py'}:Mine", settings={"beta": 0.1, "trunk": False})
    assert (custom.critic, custom.reads_value, custom.moves_trunk) == (True, False, False)
    assert custom.reads_divergence and not Reinforce().reads_divergence
    assert (custom.kl_place, custom.reads_old, custom.idle(1)) == ("reward", True, [])


@pytest.mark.parametrize(
    ("text", "name", "settings", "found"),
    [
        (MINE, ":Yours", {}, "'Yours' is NoneType"),
        (MINE, ":nothing", {}, "'nothing' is int"),
        (MINE, "", {}, "no file"),
        (MINE, ":Mine", {"gain": -1}, "gain: Input should be greater than 0"),
        (MINE, ":Mine", {"gian": 1}, "gian: Extra inputs are not permitted"),
        ("1 / 0", ":Mine", {}, "ZeroDivisionError"),
        ("def (", ":Mine", {}, "SyntaxError"),
    ],
    ids=["missing", "no-class", "no-name", "out-of-bounds", "misspelt", "raises", "broken"],
)
def test_a_users_objective_that_cannot_be_used_is_one_clear_fault(
    tmp_path: Path, text: str, name: str, settings: dict[str, object], found: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(AnyObjective).validate_python(
            {"type": "custom", "path": f"{tmp_path / 'mine.py'}{name}", "settings": settings}
        )
    (fault,) = caught.value.errors()
    assert found in fault["msg"]
    assert "try: " in fault["msg"]


def test_a_users_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(MINE)
    with pytest.raises(ValidationError, match="no Python file"):
        Custom(path=f"{tmp_path / 'mine.txt'}:Mine")
