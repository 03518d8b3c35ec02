"""From what training shows to the gain of an arm: settings records with pure functions of a small history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.state import Vector
from klimb.config import Settings
from klimb.errors import KlimbError


@dataclass(frozen=True)
class Seen:
    """What was seen of the choice of an arm; a gain reads what it needs, and None is what was not measured."""

    loss: float | None = None
    """The training loss on what the arm scored, before the update."""
    after: float | None = None
    """The loss on the same batch after the update."""
    held_out: float | None = None
    """A measure on data that is not trained on, greater is better: a dev-set reward."""
    margin: float | None = None
    """How far a trusted judge agrees with the arm on the answers that both scored, from -1 to 1."""


@dataclass(frozen=True)
class History:
    """Raw gains that later ones are compared with, oldest first, and the last held-out measure (none or one)."""

    raw: Vector
    last: Vector


def no_history() -> History:
    """The history before the first gain."""
    return History(np.zeros(0), np.zeros(0))


class Gain(Settings):
    """A raw gain, greater is better, scaled to [0, 1] by two quantiles of its own history, itself included.

    0 below the lower one, 1 above the upper one, a straight line in between; one half where all are the same, so for
    the first.
    """

    low: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """The quantile that counts as zero."""
    high: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """The quantile that counts as one."""
    window: Annotated[int, Field(ge=2)] | None = 50
    """How many raw gains are looked back on; none = all, as in the paper. As training goes on its loss falls, and
    against all of its history every late gain is 1: the bandit is blind."""

    def faults(self) -> list[KlimbError]:
        """The quantiles must be in order."""
        if self.low < self.high:
            return []
        return [KlimbError(f"low={self.low} below high={self.high}", "it is not", "low=0.2, high=0.8")]

    def measure(self, history: History, seen: Seen) -> tuple[History, float | None]:
        """The next history, and the gain; None where what it needs was not measured or is not finite."""
        raw = self.raw(history, seen)
        if seen.held_out is not None and np.isfinite(seen.held_out):
            history = replace(history, last=np.array([seen.held_out]))
        if raw is None or not np.isfinite(raw):
            return history, None
        kept = np.append(history.raw, raw)[-(self.window or 0) :]
        return replace(history, raw=kept), self.scaled(raw, kept)

    def raw(self, history: History, seen: Seen) -> float | None:
        """The gain before scaling, or None."""
        raise NotImplementedError

    def scaled(self, raw: float, kept: Vector) -> float:
        """A raw gain within [0, 1], beside the window that it is part of."""
        return quantile_scaled(raw, kept, self.low, self.high)


class NegativeLoss(Gain):
    """Minus the training loss: LASeR's. It prefers an arm that agrees with the policy to one that corrects it."""

    type: Literal["negative_loss"] = "negative_loss"

    def raw(self, history: History, seen: Seen) -> float | None:
        return None if seen.loss is None else -seen.loss


class LossDecrease(Gain):
    """How much an update lowered the loss on its own batch: arms whose losses differ in scale become comparable."""

    type: Literal["loss_decrease"] = "loss_decrease"

    def raw(self, history: History, seen: Seen) -> float | None:
        return None if seen.loss is None or seen.after is None else seen.loss - seen.after


class HeldOut(Gain):
    """How much a measure on held-out data has risen since it was last taken; the first time there is no gain."""

    type: Literal["held_out"] = "held_out"

    def raw(self, history: History, seen: Seen) -> float | None:
        return None if seen.held_out is None or len(history.last) == 0 else seen.held_out - float(history.last[0])


class Margin(Gain):
    """How far a judge that is not trained on agrees with the arm: what its scores are worth, before any update.

    It is between -1 and 1 already and its scale means the same for every arm: (1 + margin) / 2, without quantiles.
    """

    type: Literal["margin"] = "margin"

    def raw(self, history: History, seen: Seen) -> float | None:
        return seen.margin

    def scaled(self, raw: float, kept: Vector) -> float:
        return float(np.clip((1.0 + raw) / 2.0, 0.0, 1.0))


AnyGain = Annotated[NegativeLoss | LossDecrease | HeldOut | Margin, Field(discriminator="type")]


def quantile_scaled(raw: float, among: Vector, low: float, high: float) -> float:
    """(raw - q_low) / (q_high - q_low) within [0, 1], q being quantiles of `among`; one half where those are equal."""
    size = max(float(np.max(np.abs(among))), 1e-300)  # so that no difference overflows
    bottom, top = np.quantile(among / size, [low, high])
    if not top > bottom:
        return 0.5 if raw / size == bottom else float(raw / size > bottom)
    return float(np.clip((raw / size - bottom) / (top - bottom), 0.0, 1.0))


def saturated(gains: Vector) -> float:
    """The share of gains that are exactly 0 or 1: near one, the bandit no longer tells arms apart."""
    return float(np.mean((gains == 0.0) | (gains == 1.0))) if len(gains) else 0.0
