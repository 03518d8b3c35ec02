"""What sources of given answers share: whose turn it is, answers as token ids, and what is cut where they are long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from klimb.errors import DataError, KlimbError
from klimb.generation.base import Sampling
from klimb.seeds import permutation, seed_of
from klimb.sources.base import Source, Supplies
from klimb.sources.weighed import weighed
from klimb.types import Completion, Finish, Group, Label, Prompt, Reply, Rollout, Transform


class Given(Source):
    """A source that reads answers from the data."""

    type: str
    scores: ClassVar[bool] = False
    prompts: Annotated[int, Field(ge=1)] = 8
    """How many rows of the data each step learns from."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """How many times each batch is learned from."""
    minibatches: Annotated[int, Field(ge=1)] = 1
    """Into how many optimizer steps each pass over a batch is cut, by prompts."""
    prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longer prompts lose their beginning (all but their first token); null = none is cut."""
    answer_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longer answers lose their end, and EOS with it; null = none is cut. Nothing of an answer is cut for a prompt."""

    @property
    def completions(self) -> int:
        """Answers to a prompt."""
        return 2

    @property
    def own(self) -> bool:
        """Whether the policy also answers the prompts of the data itself."""
        return False

    def used(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        """Of the answers to a prompt, those that are learned from."""
        return replies

    def conflicts(self, corrected: bool, sampling: Sampling, refers: bool) -> Iterator[KlimbError]:
        if corrected:
            found = f"source.type={self.type}, whose given answers have no log-probs of what drew them"
            yield weighed(found, "training.correction.type=none and generator.type=local")

    def ask(self, prompt: Prompt) -> Prompt:
        """The rendered prompt, cut to `prompt_tokens`: its first token and its end are kept."""
        most = self.prompt_tokens
        if most is None or len(prompt.tokens) <= most:
            return prompt
        kept = (prompt.tokens[0], *prompt.tokens[len(prompt.tokens) - most + 1 :]) if most > 1 else prompt.tokens[-1:]
        return replace(prompt, tokens=kept)

    def answer(self, prompt: Prompt, reply: Reply, k: int, supplies: Supplies) -> Rollout:
        """An answer of the data as a rollout, with a label and its known score."""
        tokens, most = supplies.encode(prompt, reply.text), self.answer_tokens
        whole = most is None or len(tokens) <= most
        done = Completion(tokens if whole else tokens[:most], (), reply.text, Finish.EOS if whole else Finish.LENGTH)
        label = Label.CHOSEN if reply.chosen else Label.REJECTED
        return Rollout(done, k, seed_of("given", prompt.id, k) % 2**62, reward=reply.score, label=label)


def turn(supplies: Supplies, step: int, count: int) -> list[Prompt]:
    """The `count` prompts of step `step` (from 1): each pass visits every prompt once, in a seeded order."""
    return visited(supplies.prompts, supplies.seed, step, count)


def visited(prompts: Sequence[Prompt], seed: int, step: int, count: int) -> list[Prompt]:
    """The `count` of these prompts whose turn it is at step `step` (from 1), in the order of the seed."""
    size = len(prompts)
    visits = range((step - 1) * count, step * count)
    orders = {epoch: permutation(seed, epoch, size) for epoch in {visit // size for visit in visits}}
    return [prompts[int(orders[visit // size][visit % size])] for visit in visits]


def pair_group(source: Given, prompt: Prompt, supplies: Supplies) -> Group:
    """The pair of a prompt: the chosen answer, then the rejected one. Raises DataError where there is none."""
    replies = supplies.given.get(prompt.id, ())
    if [reply.chosen for reply in replies] != [True, False]:
        raise DataError(
            "learn from preference pairs",
            f"prompt {prompt.id!r} has {len(replies)} answers, which are not a chosen and a rejected one",
            "data with pairs, or objective.type=kto source.type=labelled",
        )
    return group_of(source, prompt, replies, supplies)


def group_of(source: Given, prompt: Prompt, replies: Sequence[Reply], supplies: Supplies) -> Group:
    """A prompt with some of its answers."""
    rows = tuple(source.answer(prompt, reply, k, supplies) for k, reply in enumerate(replies))
    return Group(source.ask(prompt), rows, Transform(), "", supplies.template)
