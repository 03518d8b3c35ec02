"""Losses of other frameworks: what their gradient is, and what is said of a loss that cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from klimb.errors import KlimbError
from klimb.proving import Enumerable, compare_loss, exact_gradient, loss_gradient, world
from klimb.proving.files import prove_file
from klimb.proving.match import matches

ONE, ONE_OFF = (world("one token", Enumerable(words=3, length=1, prompts=2), drift) for drift in (0.0, 0.5))
SEVERAL, SEVERAL_OFF = (world("several", Enumerable(words=3, length=2), drift) for drift in (0.0, 0.5))
EVERYWHERE = (ONE, SEVERAL, ONE_OFF, SEVERAL_OFF)


def token(logp: Tensor, old_logp: Tensor, advantage: Tensor) -> Tensor:
    return -(logp - old_logp).exp() * advantage


def sequence(logp: Tensor, old_logp: Tensor, reward: Tensor) -> Tensor:
    return -(logp - old_logp).sum().exp() * reward[0]


def k1(logp: Tensor, ref_logp: Tensor) -> Tensor:
    return logp - ref_logp


def k2(logp: Tensor, ref_logp: Tensor) -> Tensor:
    return (logp - ref_logp).square() / 2


def k3(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    return ((ref_logp - logp).exp() - 1 - (ref_logp - logp)) * mask


def attached(logp: Tensor, old_logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    return (logp - old_logp).exp() * k3(logp, ref_logp, mask)


def detached(logp: Tensor, old_logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    return (logp - old_logp).exp().detach() * k3(logp, ref_logp, mask)


def mixed(logp: Tensor, old_logp: Tensor, ref_logp: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    return 2 * token(logp, old_logp, advantage) + 0.25 * attached(logp, old_logp, ref_logp, mask)


def constant(logp: Tensor, length: int, weight: float = 3.0) -> Tensor:
    return torch.tensor(weight * length)


REVERSE, FORWARD, NO = "-reverse KL to ref", "-forward KL to ref", "no target"


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (token, ["reward", "reward", "reward", NO]),
        (sequence, ["reward"] * 4),
        (k1, ["nothing", "nothing", "+forward KL to old", "+forward KL to old"]),
        (k2, [REVERSE, f"{REVERSE} per token", NO, NO]),
        (k3, [FORWARD, f"{FORWARD} per token", NO, NO]),
        (attached, [REVERSE, f"{REVERSE} per token"] * 2),
        (detached, [FORWARD, f"{FORWARD} per token"] * 2),
        (mixed, ["2 reward - 0.25 reverse KL to ref", "2 reward - 0.25 reverse KL to ref per token"] * 2),
        (constant, ["nothing"] * 4),
    ],
)
def test_the_target_of_a_loss_is_found(loss: Any, targets: list[str]) -> None:
    expected = [*targets[:3], NO if loss is mixed else targets[3]]
    assert [compare_loss(loss, here).name for here in EVERYWHERE] == expected


def test_the_gradient_of_a_plain_loss_is_that_of_the_sum_over_answers() -> None:
    found = loss_gradient(sequence, ONE)
    probability = ONE.theta.softmax(-1).squeeze(1)
    mean = (probability * ONE.reward).sum(-1, keepdim=True)
    torch.testing.assert_close(found.squeeze(1), probability * (ONE.reward - mean) / 2, rtol=1e-12, atol=1e-15)


def wants_more(logp: Tensor, temperature: float) -> Tensor:
    return logp * temperature


def without_logp(advantage: Tensor) -> Tensor:
    return advantage


def breaks(logp: Tensor) -> Tensor:
    raise ValueError("no")


def number(logp: Tensor) -> Any:
    return 1.0


def infinite(logp: Tensor) -> Tensor:
    return logp / 0


def steep(logp: Tensor) -> Tensor:
    return (logp - logp.detach()).abs().sqrt()


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (wants_more, "no value for temperature"),
        (without_logp, "no parameter `logp`"),
        (breaks, "ValueError: no"),
        (number, "found: a float"),
        (infinite, "not finite for 1 tokens"),
    ],
)
def test_a_loss_that_cannot_be_asked_is_an_error_with_a_cure(loss: Any, says: str) -> None:
    with pytest.raises(KlimbError, match=says) as error:
        compare_loss(loss, ONE)
    assert loss.__name__ in error.value.asked
    assert error.value.cure


def test_a_gradient_that_is_not_finite_is_an_error_and_no_bias() -> None:
    with pytest.raises(KlimbError, match=r"not finite \(one token\)"):
        compare_loss(steep, ONE)


def test_a_loss_that_misses_is_measured_against_the_nearest_target() -> None:
    def missing(logp: Tensor, old_logp: Tensor, ref_logp: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        return token(logp, old_logp, advantage) + 0.1 * k3(logp, ref_logp, mask)

    gradient = loss_gradient(missing, ONE_OFF)
    found = matches(gradient, ONE_OFF)
    assert [m.bias for m in found] == sorted(m.bias for m in found)
    assert len({m.target for m in found}) == 8
    for m in found:
        gap = gradient - exact_gradient(m.target, ONE_OFF)
        assert m.bias == pytest.approx(float(gap.norm()), rel=1e-9)
        assert m.largest == pytest.approx(float(gap.abs().max()), rel=1e-9)
        assert 0 < m.cosine < 1
        assert m.bias / float(gradient.norm()) == pytest.approx((1 - m.cosine**2) ** 0.5, rel=1e-6)
    assert found[0].target.name == "1.004 reward - 0.1801 forward KL to ref"
    assert found[0].name == "no target"
    assert 1e-3 < found[0].largest < found[0].bias < 3e-3


FILE = """
from klimb import functional as F
from klimb.objectives import RLOO, Objective
from klimb.objectives.base import terms

def plain(logp, old_logp, advantage):
    return -(logp - old_logp).exp() * advantage

class Mine(RLOO):
    pass

class Broken(RLOO):
    def loss(self, now, batch):
        return terms(batch, (now.logp * batch.advantage).mean() + 0 * now.logp, {"nonsense": now.logp})

class Needy(Objective):
    size: int

value = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(FILE, "utf-8")
    return str(tmp_path / "mine.py")


def test_a_users_function_and_objective_are_proved(file: str) -> None:
    rows = prove_file(f"{file}:plain")
    assert [(row.target, row.holds) for row in rows] == [("reward", True)] * 2
    assert {(row.objective, row.stated, row.policy) for row in rows} == {(f"{file}:plain", "nothing stated", "on")}
    assert {row.residual for row in rows} == {None}, "nothing is stated"
    far = prove_file(f"{file}:plain", off_policy=True)
    best = far[1].candidates[0]
    assert (far[1].target, far[1].bias, far[1].cosine, far[1].largest) == (
        "no target",
        best.bias,
        best.cosine,
        best.largest,
    )
    assert best.largest != best.bias
    assert 0 < best.cosine < 1
    assert [(row.world, row.policy, row.holds) for row in far] == [
        ("one token", "far", True),
        ("surrogate", "far", False),
    ]
    assert [(row.target, row.stated, row.holds) for row in prove_file(f"{file}:Mine", True)] == [
        ("reward", "nothing stated", True)
    ] * 3


def test_a_users_objective_that_breaks_a_law_is_told_which(file: str) -> None:
    rows = prove_file(f"{file}:Broken")
    assert {row.objective for row in rows} == {f"{file}:Broken"}
    broken = {row.target for row in rows if row.world == "laws" and not row.holds}
    assert "law: parts add up to the whole in loss, metrics and gradient" in broken
    assert "law: metrics stand in the glossary and carry no gradient" in broken
    assert {(row.bias, row.cosine, row.largest) for row in rows if row.world == "laws"} == {(None, None, None)}


@pytest.mark.parametrize(
    ("name", "says"),
    [("value", "no function or class 'value'"), ("nothing", "one of Broken"), ("Needy", "size")],
)
def test_what_a_file_lacks_is_said(file: str, name: str, says: str) -> None:
    with pytest.raises(KlimbError, match=says):
        prove_file(f"{file}:{name}")


def test_a_file_that_is_not_there_or_does_not_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0", "utf-8")
    (tmp_path / "bad.txt").write_text("", "utf-8")
    for path, says in (("none.py:f", "no file"), ("bad.py:f", "ZeroDivisionError"), ("bad.txt:f", "no Python file")):
        with pytest.raises(KlimbError, match=says) as error:
            prove_file(str(tmp_path / path))
        assert error.value.asked == f"prove {tmp_path / path}"
        assert error.value.cure
