"""A buffer of groups to learn from again, and the settings that every source with one has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from klimb.errors import KlimbError
from klimb.generation.base import Sampling
from klimb.seeds import seed_of, uniforms
from klimb.sources.base import Source
from klimb.types import Group

if TYPE_CHECKING:
    from torch import Tensor

Numbers = NDArray[np.float64]
Priority = Literal["uniform", "recency", "advantage", "success"]


class Replays(Source):
    """What every source has that gives answers drawn earlier."""

    replays: ClassVar[bool] = True
    prompts: Annotated[int, Field(ge=1)] = 8
    """How many groups (a prompt with its answers) each step learns from."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """How many times each batch is learned from."""
    minibatches: Annotated[int, Field(ge=1)] = 1
    """Into how many optimizer steps each pass over a batch is cut, by prompts."""
    priority: Priority = "uniform"
    """Which groups are drawn more often: none; newer ones; those with a larger mean |R - mean|; those with more
    successes. All but the first change which prompts are learned from, and that is not corrected."""
    half_life: Annotated[float, Field(gt=0.0)] = 10.0
    """Priority `recency`: a group that is so many versions older is half as likely."""
    success: float = 1.0
    """A reward of at least this is a success."""
    floor: Annotated[float, Field(gt=0.0)] = 0.01
    """Priorities `advantage` and `success`: what is added to each group's weight, so that every one may be drawn."""
    stale: Annotated[int, Field(ge=1)] | None = None
    """Groups drawn more versions of the policy ago than this are left alone; null = none is. A step makes a version;
    the newest one in a log counts as that before the first step."""
    old: Literal["behaviour", "trainer"] = "behaviour"
    """Which policy an objective's ratio, clip and KL to the old policy compare with: the one that drew the answers; or
    the trainer's own before the batch, beside which `training.correction` weighs what lies between the two."""
    estimated: bool = False
    """Takes log-probs that a model gave afterwards for those of the policy that drew."""

    def conflicts(self, corrected: bool, sampling: Sampling, refers: bool) -> Iterator[KlimbError]:
        if self.old == "trainer" and not corrected:
            yield KlimbError(
                "learn from answers of other policies with source.old=trainer",
                "training.correction.type=none, which takes them for this policy's own",
                "training.correction.type=truncate, or source.old=behaviour",
            )
        if sampling.temperature == 0:
            yield KlimbError(
                "learn from answers of other policies by importance weights",
                "sampling.temperature=0: a policy that says one answer alone",
                "sampling.temperature=1.0",
            )


@dataclass(frozen=True, slots=True)
class Held:
    """A group in a buffer. `born` is the step at which it was drawn; in a log 0 for the newest version, then below."""

    group: Group
    born: int
    advantage: float
    """The mean of |R - mean of the group|."""
    success: float
    """The share of its scored answers that are successes."""

    @classmethod
    def of(cls, group: Group, born: int, success: float) -> Held:
        """A group with what its priority may be made of."""
        rewards = [rollout.reward for rollout in group.rollouts if rollout.reward is not None]
        if not rewards:
            return cls(group, born, 0.0, 0.0)
        mean = fmean(rewards)
        return cls(group, born, fmean(abs(r - mean) for r in rewards), fmean(r >= success for r in rewards))


class Buffer:
    """Groups of a log, and the newest `capacity` that a run has drawn itself. What is drawn is a function of the step.

    What the run has drawn is part of every checkpoint; the log is a file that stays as it is.
    """

    def __init__(self, settings: Replays, seed: int, logged: Sequence[Held] = (), capacity: int = 0) -> None:
        self._settings, self._seed, self._capacity = settings, seed, capacity
        self._logged, self._own = list(logged), list[Held]()

    def add(self, step: int, groups: Sequence[Group]) -> None:
        """Groups that step `step` has drawn; they may be drawn again from the next step on."""
        self._own = self._before(step)
        self._own += [Held.of(group, step, self._settings.success) for group in groups]

    def young(self, step: int) -> list[Held]:
        """The groups that step `step` may draw."""
        oldest = -(10**9) if self._settings.stale is None else step - self._settings.stale
        return [held for held in (*self._logged, *self._before(step)) if held.born >= oldest]

    def draw(self, step: int, count: int) -> list[Group]:
        """At most `count` different groups for step `step`, by priority (Efraimidis and Spirakis, 2006)."""
        held = self.young(step)
        if not held or count <= 0:
            return []
        dice = uniforms(seed_of("replay", self._seed, step), len(held))
        keys = np.log(np.maximum(dice, 1e-300)) / self._weights(held, step)
        chosen = np.argsort(-keys, kind="stable")[:count].tolist()
        return [replace(held[place].group, age=step - held[place].born) for place in chosen]

    def state(self) -> Mapping[str, Tensor]:
        """What the run has drawn, as the content of a rollouts file."""
        import torch

        from klimb.rollouts import to_bytes

        content = to_bytes([held.group for held in self._own], [held.born for held in self._own])
        return {
            "groups": torch.frombuffer(bytearray(content), dtype=torch.uint8),
            "born": torch.tensor([held.born for held in self._own], dtype=torch.int64),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts it back."""
        from klimb.rollouts import from_bytes

        groups = from_bytes(bytes(state["groups"].numpy().tobytes()))
        born = state["born"].tolist()
        self._own = [Held.of(group, at, self._settings.success) for group, at in zip(groups, born, strict=True)]

    def _before(self, step: int) -> list[Held]:
        """The newest own groups of earlier steps: a step that is done again, after an interruption, finds the same."""
        own = [held for held in self._own if held.born < step]
        return own[max(0, len(own) - self._capacity) :]

    def _weights(self, held: Sequence[Held], step: int) -> Numbers:
        s = self._settings
        if s.priority == "recency":
            ages = np.array([step - one.born for one in held], np.float64)
            newer: Numbers = np.exp2(-(ages - ages.min()) / s.half_life).clip(1e-12)
            return newer
        if s.priority == "uniform":
            return np.ones(len(held))
        return s.floor + np.array([one.advantage if s.priority == "advantage" else one.success for one in held])
