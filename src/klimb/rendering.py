"""A recipe's prompts with their token ids, once; what does not fit into the model, or is not read, is told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from klimb.data.base import Problems
from klimb.errors import DataError, named
from klimb.recipe import Recipe
from klimb.sources.given import Given
from klimb.types import Encode, Prompt, Reply

if TYPE_CHECKING:
    from klimb.policy.texts import Texts

SHOWN = 5
"""How many faults are told in whole."""
GROWS, PLAIN = 12, 2
"""The most tokens that a byte becomes: of any text (U+FDFA, 3 bytes, may be 18 letters of 33 and a space), of ASCII."""
LEAST = 0.5
"""The least share that a cut must keep of what is longest to be advised alone."""
Replies = Mapping[str, Sequence[Reply]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompts to learn from, those without answers, and the held-out ones that evaluations ask.

    A source of given answers asks held-out prompts as its own: cut to its `prompt_tokens`.
    """

    train: Sequence[Prompt]
    unlabelled: Sequence[Prompt]
    asked: Sequence[Prompt]


class Misfit(DataError):
    """A prompt of `size` tokens after which the context has no room for `drawn` tokens that are sampled, or `given`."""

    def __init__(self, prompt: Prompt, context: int, drawn: int, given: int) -> None:
        self.size, self.drawn, self.need = len(prompt.tokens), drawn, max(drawn, given)
        what = "its longest answer" if given > drawn else "sampling.max_tokens"
        asked = f"prompt {prompt.id!r} must leave room for {self.need} more token{'s' * (self.need > 1)} ({what})"
        super().__init__(asked, f"{self.size} tokens, and the model's context is {context}")


def encoding(texts: Texts, scores: bool) -> Encode:
    """How answers of the data are read: as they would be drawn, or as text by a reward model (`scores`)."""
    return texts.written if scores else lambda _, text: texts.reply(text)


def rendered(recipe: Recipe, problems: Problems, policy: Texts, learns: bool = True) -> Rendered:
    """Every prompt with its token ids. Raises one DataError for all that cannot be used, and ModelError.

    The model's context must have room for `sampling.max_tokens` after a prompt that the policy answers, and for the
    longest answer of the data that is learned from or measured, cut as the source cuts it. What nobody reads stays as
    it is: answers and all prompts but held-out ones where nothing `learns`, and the prompts of the data beside a log.
    """
    source, scorer = recipe.source, recipe.scorer
    first, drawn = problems.held_out[: recipe.evaluation.problems], recipe.sampling.max_tokens
    room = 1 if scorer else drawn
    rows: _Rows = _Rows(policy)
    train: Sequence[Prompt] = problems.train
    if isinstance(source, Given):
        rows = _Answered(policy, source, scorer)
    elif scorer:
        rows = _Answered(policy, None, scorer)
    if learns and isinstance(source, Given):
        used = {prompt.id: source.used(problems.given.get(prompt.id, ())) for prompt in problems.train}
        train = rows.fit(problems.train, drawn if source.own else 1, used)
    elif learns and source.draws:
        train = rows.fit(problems.train, room)
    asked = rows.fit(first, room, problems.given if learns else None)
    found = Rendered(train, rows.fit(problems.unlabelled, drawn) if learns else (), asked)
    rows.check()
    return found


class _Rows:
    """Renders prompts, and keeps the faults."""

    def __init__(self, policy: Texts) -> None:
        self._policy = policy
        self._count = 0
        self._faults: list[tuple[str, DataError]] = []

    def fit(self, prompts: Sequence[Prompt], room: int, given: Replies | None = None) -> list[Prompt]:
        """The prompts that leave so much room in the context, and as much as the answers to them need."""
        done = []
        for prompt in prompts:
            self._count += 1
            try:
                done.append(self._fit(prompt, room, () if given is None else given.get(prompt.id, ())))
            except DataError as fault:
                self._faults.append((prompt.id, fault))
        return done

    def check(self) -> None:
        """Raises DataError where there are faults: the first ones in whole, and the rows of them all."""
        if not self._faults:
            return
        shown = "; ".join(DataError(fault.asked, fault.found).line() for _, fault in self._faults[:SHOWN])
        found = f"{len(self._faults)} cannot be used: {shown}"
        cures = _cures([one for _, one in self._faults if isinstance(one, Misfit)], self._policy.context)
        cures += [cure for cure in dict.fromkeys(fault.cure for _, fault in self._faults) if cure]
        leave = f"mend or leave out {named([name for name, _ in self._faults])}"
        raise DataError(f"use {self._count} prompts", found, "; or ".join([*cures, leave]))

    def _fit(self, prompt: Prompt, room: int, replies: Sequence[Reply]) -> Prompt:
        return self._policy.render(prompt, room)


class _Answered(_Rows):
    """The same of prompts that have answers, cut where the source cuts."""

    def __init__(self, policy: Texts, source: Given | None, scores: bool) -> None:
        super().__init__(policy)
        self._source, self._scores, self._encode = source, scores, encoding(policy, scores)
        self._most = None if source is None else source.answer_tokens

    def _fit(self, prompt: Prompt, room: int, replies: Sequence[Reply]) -> Prompt:
        policy = self._policy
        asked = replace(prompt, tokens=policy.tokens_of(prompt))
        asked = asked if self._source is None else self._source.ask(asked)
        left = policy.context - len(asked.tokens)
        if self._scores and replies:
            policy.outline(asked)  # which the template may refuse
        longest = max((self._size(asked, reply.text, left) for reply in replies), default=0)
        if max(room, longest) > left:
            fault = Misfit(asked, policy.context, room, longest)
            raise fault if self._source else DataError(fault.asked, fault.found)  # else nothing is there to cut
        return asked

    def _size(self, prompt: Prompt, text: str, left: int) -> int:
        """How many tokens of an answer are learned from; not counted where they fit anyhow, and are read for sure.

        Raises DataError where it is not read.
        """
        size, plain = len(text.encode("utf-8", "surrogatepass")), len(text.encode("ascii", "ignore"))
        most, bound = self._most, GROWS * (size - plain) + PLAIN * plain + 2
        bound = bound if most is None else min(most, bound)
        if bound <= left and not (self._scores and self._policy.markers.spelled(text)):
            return 0
        try:
            size = len(self._encode(prompt, text))
        except DataError as fault:
            name = f"prompt {prompt.id!r}"
            asked = fault.asked if name in fault.asked else f"{name}: {fault.asked}"
            raise DataError(asked, fault.found) from fault
        return size if most is None else min(most, size)


def _cures(misfits: Sequence[Misfit], context: int) -> list[str]:
    """What makes all of these fit."""
    if not misfits:
        return []
    size, drawn, need = (max(getattr(one, name) for one in misfits) for name in ("size", "drawn", "need"))
    answers, prompts = context - size, context - need
    kept = {
        f"source.answer_tokens={answers}, which cuts the end of longer answers": answers / need * (answers >= drawn),
        f"source.prompt_tokens={prompts}, which cuts the beginning of longer prompts": prompts / max(size, 1),
    }
    found = sorted((cure for cure, share in kept.items() if share >= LEAST), key=lambda cure: -kept[cure])
    if not found and (both := max(drawn, context // 2)) < context:
        found.append(f"source.prompt_tokens={context - both} source.answer_tokens={both}, which cuts both")
    if any(one.need == one.drawn > 1 for one in misfits):
        found.append("a smaller sampling.max_tokens")
    return [*found, "a model with a longer context"]
