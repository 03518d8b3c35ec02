"""Held-out preferences: how often the policy prefers what people do, and how far it went from where it began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from klimb.evaluation.answers import noted
from klimb.evaluation.divergence import Divergence
from klimb.evaluation.diversity import distinct
from klimb.evaluation.given import Heard, Replies, answered, drifts, gaps, heard, implicit
from klimb.types import Group, Prompt

Ask = Callable[[int], tuple[dict[str, float], Sequence[Group]]]


@dataclass(frozen=True, slots=True)
class PreferenceExam:
    """What a run with an initial policy is measured by: `ask` draws the held-out answers (and may have them scored).

    `given` are the answers of the data to the held-out prompts; none where the data give none. Of longer ones the first
    `most` tokens are read, as in training.
    """

    ask: Ask
    far: Divergence
    prompts: Sequence[Prompt] = ()
    given: Replies = field(default_factory=dict)
    most: int | None = None

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """The metrics after `step`, and the held-out answers. Raises GenerationError, RewardError."""
        told, groups = self.ask(step)
        far, groups = self.far(groups, step)
        given = self._given()
        apart = gaps(given)
        found = {**told, **implicit(list(apart.values())), **drifts(given), **far, **_distinct(groups)}
        return found, noted(groups, "eval/implicit_gap", apart)

    def _given(self) -> list[Heard]:
        far = self.far
        there = [(prompt, self.given[prompt.id]) for prompt in self.prompts if self.given.get(prompt.id)]
        groups = [answered(prompt, some, lambda _, text: far.policy.reply(text), self.most) for prompt, some in there]
        return heard(groups, far.policy, far.reference, far.tokens)


def _distinct(groups: Sequence[Group]) -> dict[str, float]:
    """distinct-1 and distinct-2 over all held-out answers."""
    answers = [one.completion.tokens for group in groups for one in group.rollouts]
    found = {f"eval/distinct_{n}": distinct(answers, n) for n in (1, 2)}
    return {name: value for name, value in found.items() if value is not None}
