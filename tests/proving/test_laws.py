"""Each law is broken by an objective that is made to break it, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
import torch

from klimb import functional as F
from klimb.batch import Terms
from klimb.objectives import GRPO, RLOO, RPG, Objective
from klimb.objectives.base import given, terms
from klimb.proving import laws
from klimb.proving.catalog import EVERY
from klimb.proving.laws import check
from tests.objectives.kit import QUICK, named

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs


class Mean(RLOO):
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return Terms((now.logp * given(batch, "advantage")).mean(), {})


class FirstRow(RLOO):
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return terms(batch, now.logp * given(batch, "advantage") * (batch.row + 1), {})


class Unmasked(RLOO):
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return Terms((now.logp * given(batch, "advantage")).sum() + now.logp.sum(), {})


class Unscored(RLOO):
    def advantage(self, batch: Batch) -> Batch:
        return batch.replace(advantage=(batch.reward - batch.reward.mean())[batch.row])


class Asleep(GRPO):
    beta: float = 0.1

    def live(self, batch: Batch) -> torch.Tensor:
        return torch.zeros(batch.rows, dtype=torch.bool)


class Restless(RLOO):
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return terms(batch, now.logp, {})


class Pulling(RPG):
    divergence: Literal["fkl", "rkl", "ufkl", "urkl", "jeffreys"] = "urkl"

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return terms(batch, self.beta * now.logp, {})


class Forgetful(RLOO):
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        size = 1.0 if batch.old is None else 2.0
        return terms(batch, size * now.logp * given(batch, "advantage"), {})


class Narrow(GRPO):
    beta: float = 0.1

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return super().loss(now, batch.replace(kl_weight=None))


class Lossy(RLOO):
    size: tuple[float, ...] = (1.0,)

    def model_dump_json(self, **_: object) -> str:  # type: ignore[override]
        return '{"size": [2.0]}'


class Unknown(RLOO):
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        loss = F.clip.none(now.logp, given(batch, "advantage"))
        return terms(batch, loss, {"nonsense": loss})


class Attached(RLOO):
    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return Terms(terms(batch, now.logp * given(batch, "advantage"), {}).loss, {"policy/ratio": now.logp.sum() * 0})


class Apart(GRPO):
    """A KL with weights of its own has metrics of its own: one that nobody knows."""

    beta: float = 0.1

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        found = super().loss(now, batch)
        return Terms(found.loss, found.metrics, {f"nonsense {name}": value for name, value in found.kl.items()})


class ApartAttached(GRPO):
    beta: float = 0.1

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        found = super().loss(now, batch)
        return Terms(found.loss, found.metrics, {name: value + found.loss * 0 for name, value in found.kl.items()})


@pytest.mark.parametrize(
    ("objective", "law"),
    [
        (Mean(), "parts add up"),
        (Mean(), "rows alone"),
        (FirstRow(), "the order of rows"),
        (Unmasked(), "masked tokens"),
        (Unscored(), "rows without a score"),
        (Asleep(), "not live"),
        (Restless(), "zero advantage"),
        (Pulling(), "unnormalised KLs"),
        (Forgetful(), "old is now"),
        (Narrow(), "leaves on all tokens"),
        (Lossy(), "JSON"),
        (Unknown(), "glossary"),
        (Attached(), "glossary"),
        (Apart(), "glossary"),
        (ApartAttached(), "glossary"),
    ],
)
def test_a_broken_law_is_named(objective: RLOO, law: str) -> None:
    assert [sentence for sentence in laws.check(objective) if law in sentence]


def test_a_kl_with_weights_of_its_own_breaks_no_law() -> None:
    assert laws.check(GRPO(beta=0.1)) == []


def test_numbers_are_close_only_where_the_same_ones_are_there() -> None:
    assert laws.close({"a": 1.0}, {"a": 1.0 + 1e-14})
    assert not laws.close({"a": 1.0}, {"a": 1.0 + 1e-9})
    assert not laws.close({"a": 1.0}, {"b": 1.0})


@pytest.mark.parametrize(
    "objective", [pytest.param(o, id=named(o), marks=() if o in QUICK else pytest.mark.slow) for o in EVERY]
)
def test_every_law_of_the_public_kit_holds(objective: Objective) -> None:
    assert check(objective) == []
