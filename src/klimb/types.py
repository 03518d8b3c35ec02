"""The words: messages, prompts, completions, scores, rollouts, groups. Frozen, and without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any


class Finish(StrEnum):
    """Why a completion ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"


class Label(IntEnum):
    """What a completion is, where learning from it needs no reward. Rows with a label always learn."""

    NONE = 0
    """A rollout like any other: it learns where it has a reward."""
    CHOSEN = 1
    """Preferred over another one, or desirable."""
    REJECTED = -1
    """Another one was preferred, or undesirable."""
    FRESH = 2
    """Drawn by the policy for a divergence alone."""
    MISMATCHED = 3
    """The answer to another prompt, put here to measure a reference point (KTO)."""
    PASSED = 4
    """Sampled and in no pair: it teaches nothing."""


class Outcome(StrEnum):
    """How a scoring attempt ended. Only SCORED ever enters a baseline or a gradient."""

    SCORED = "scored"
    UNSCORABLE = "unscorable"
    TIMED_OUT = "timed_out"
    INFRA_FAILED = "infra_failed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked: either chat `messages` or plain `text`.

    `id` names the prompt for ever (it seeds its samples). `tokens` is filled when it is rendered, once;
    nothing is tokenised again after that.
    """

    id: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    answer: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Transform:
    """What a sampler did to the policy's distribution before it drew: its log-probs are of the transformed one.

    `known` is False for an imported log that does not say; the numbers then mean nothing.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    known: bool = True
    forking: tuple[float, float, float] | None = None
    """(threshold, high, low): the temperature was `high` where the entropy at temperature 1 was above the threshold."""

    @property
    def comparable(self) -> bool:
        """Whether the sampler's log-probs are of the distribution that the policy is trained at."""
        return self.known and not self.truncates and self.forking is None

    @property
    def truncates(self) -> bool:
        """Whether some tokens were given probability zero."""
        return self.top_p < 1.0 or self.top_k > 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy answered. `tokens` ends with the EOS token where `finish` is EOS.

    `logps` (one a token, natural log) are the sampler's own, under its transform; `entropies` (nats) are of the
    distribution at the sampling temperature, before truncation, and may be absent. In an imported log the `logps` may
    be absent too, or computed afterwards by the model that `estimated` names.
    """

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    text: str
    finish: Finish
    entropies: tuple[float, ...] = ()
    estimated: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """The answer of one reward source for one completion: a finite number, or the name of a failure."""

    outcome: Outcome
    value: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        finite = self.value is not None and math.isfinite(self.value)
        if finite is not (self.outcome is Outcome.SCORED):
            raise ValueError(f"a score is a finite number exactly when it is scored, not {self.outcome} {self.value}")

    @classmethod
    def of(cls, value: float, reason: str = "") -> Score:
        """A score that counts; what is not finite becomes UNSCORABLE."""
        number = float(value)
        if not math.isfinite(number):
            return cls(Outcome.UNSCORABLE, None, reason or f"the reward was {number}")
        return cls(Outcome.SCORED, number, reason)

    @property
    def counts(self) -> bool:
        """Whether this score may enter a baseline or a gradient."""
        return self.outcome is Outcome.SCORED


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion with its scores. `reward` is the combined score; None where any needed source failed.

    `seed` is that of its draw; in an imported log what names it, -1 in older ones. `label` says what an answer is that
    learns without a reward; the reward of a labelled one is its known score, if there is one.
    """

    completion: Completion
    k: int
    seed: int
    scores: Mapping[str, Score] = field(default_factory=dict)
    reward: float | None = None
    label: Label = Label.NONE


@dataclass(frozen=True, slots=True)
class Group:
    """The completions of one prompt, drawn by one version of the policy under one transform.

    `template` is the hash of the chat template that the prompt was rendered with; empty = none, or not known. `age`
    says how many versions of the policy ago it was drawn, where it is learned from again; None = it is fresh. `pairs`
    are the places of answers that are compared with each other, the preferred one first; None = they are no pairs.
    """

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    transform: Transform = field(default_factory=Transform)
    version: str = ""
    template: str = ""
    age: int | None = None
    pairs: tuple[tuple[int, int], ...] | None = None

    @property
    def learned(self) -> tuple[Rollout, ...]:
        """The answers that a batch learns from: with `pairs` both of each, labelled, as often as they are in one."""
        if self.pairs is None:
            return self.rollouts
        labels = (Label.CHOSEN, Label.REJECTED)
        return tuple(
            replace(self.rollouts[place], label=label)
            for pair in self.pairs
            for place, label in zip(pair, labels, strict=True)
        )

    @property
    def degenerate(self) -> bool:
        """Whether its scored completions (if any) all got the same reward, so that comparing them says nothing."""
        return len({rollout.reward for rollout in self.rollouts if rollout.reward is not None}) < 2


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that the data give for a prompt: preferred or not, with its score where one is known."""

    text: str
    chosen: bool
    score: float | None = None


Encode = Callable[[Prompt, str], tuple[int, ...]]
"""The token ids of an answer to a prompt, as training reads it, EOS last. Raises DataError where it cannot be read."""
