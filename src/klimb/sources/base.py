"""What every source of experience is: for each step it gives groups of scored rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.generation.base import Sampler, Sampling
from klimb.types import Encode, Group, Prompt, Reply, Score

if TYPE_CHECKING:
    from klimb.rewards.combining.base import Combiner

ScoreAll = Callable[..., list[dict[str, Score]]]
"""Prompts and completions, and optionally the names of the sources that are wanted for each, to its scores by name."""
Timer = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Demands:
    """What an objective asks of answers that were drawn by another policy, or version of it.

    `weighted`: a log-prob of each token under what drew it. `compared`: that many scored answers to a prompt.
    `entropies`: for the selector, that of what drew each token.
    """

    objective: str = ""
    weighted: bool = True
    compared: int = 1
    entropies: bool = False


@dataclass(frozen=True, slots=True)
class Supplies:
    """What a source works with: `weights` are the shares in the reward; `version` names the policy's weights.

    `template` is the hash of the chat template that rendered the prompts.
    """

    prompts: Sequence[Prompt]
    """The training prompts, rendered."""
    sampler: Sampler
    sampling: Sampling
    score_all: ScoreAll
    weights: dict[str, float]
    version: Callable[[], str]
    seed: int
    stage: Timer
    template: str = ""
    given: Mapping[str, tuple[Reply, ...]] = field(default_factory=dict)
    """The answers that the data give, by the prompt's id."""
    encode: Encode = lambda *_: ()
    """An answer's token ids, EOS last."""
    ended: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None
    """A logged answer's token ids with EOS last, as a reward model learns from them; None = as they were drawn."""
    vocabulary: int = 2**31
    """How many token ids the policy knows."""
    context: int = 2**31
    """The most tokens of a prompt with its answer."""
    demands: Demands = field(default_factory=Demands)
    """What the objective asks of answers that it did not draw."""
    unlabelled: Sequence[Prompt] = ()
    """Further prompts that have no answers, rendered."""
    combiner: Combiner | None = None
    """What makes one reward of an answer's scores; None = the sum by `weights`."""
    renew: Callable[[], None] = lambda: None
    """Makes the policy as it is the reference, for a source that `renews`."""


class Experience(Protocol):
    """An opened source."""

    def groups(self, step: int) -> list[Group]:
        """The groups of optimizer step `step`: a pure function of the step, the seed and the policy's weights."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """What is to be told of how the last groups came about."""
        ...


class Source(Settings):
    """A source's settings."""

    gives: ClassVar[frozenset[str]] = frozenset()
    scores: ClassVar[bool] = True
    """Whether it needs rewards."""
    weighs: ClassVar[bool] = True
    """Whether it counts what policy drew the samples: not where they are pairs of any origin."""
    replays: ClassVar[bool] = False
    """Whether it gives answers that another version of the policy, or another policy, has drawn."""

    draws: ClassVar[bool] = False
    """Whether the policy answers prompts for it in training."""

    @property
    def learned(self) -> int:
        """The most answers of a prompt that a step learns from."""
        return int(self.completions)  # type: ignore[attr-defined]

    @property
    def renews(self) -> bool:
        """Whether it makes the policy the reference now and then (`Supplies.renew`)."""
        return False

    def speaks(self, reads_logp: bool) -> bool:
        """Whether the policy says anything: its log-probs are read, or it draws. Else it needs no output layer."""
        return reads_logp or self.scores

    def conflicts(self, corrected: bool, sampling: Sampling, refers: bool) -> Iterator[KlimbError]:
        """What does not go together: with importance weights by `training.correction`; with what `refers` not."""
        yield from ()

    def sampled(self, step: int) -> int | None:
        """How many prompts step `step` asks the sampler; None = all of them."""
        return None

    def fingerprint(self) -> str:
        """A hash of what it reads beside the data; empty where that is nothing."""
        return ""

    def open(self, supplies: Supplies) -> Experience:
        """The source, ready to give."""
        raise NotImplementedError


def discarded(experience: Experience) -> Sequence[Group]:
    """The groups that were drawn for the last step and that nobody learns from; none where nothing is left out."""
    left: Sequence[Group] = getattr(experience, "discarded", ())
    return left


def scored(experience: Experience) -> Sequence[Group] | None:
    """The groups whose scores came in the last step; None = those that were drawn in it."""
    found: Sequence[Group] | None = getattr(experience, "scored", None)
    return found


def tokens_of(groups: Sequence[Group]) -> int:
    """How many completion tokens there are."""
    return sum(len(rollout.completion.tokens) for group in groups for rollout in group.rollouts)
