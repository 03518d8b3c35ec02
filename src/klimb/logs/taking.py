"""From a row of a log to a prompt and a completion, by a mapping and the rules."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from klimb.logs import values
from klimb.logs.maps import LogMap
from klimb.logs.rules import Note, Unusable
from klimb.logs.values import ABSENT, Logged, at
from klimb.records import plain
from klimb.rewards.total import combine
from klimb.types import Finish, Message, Prompt, Score, Transform


@dataclass(frozen=True, slots=True)
class Taken:
    """A usable row: what was asked, what was answered, and all that the log says of it."""

    row: int
    prompt: Prompt
    text: str
    finish: Finish
    tokens: tuple[int, ...]
    logged: Logged
    scores: Mapping[str, Score]
    reward: float | None
    transform: Transform
    step: int
    version: str
    notes: list[Note] = field(default_factory=list)


def spread(row: Mapping[str, Any], mapping: LogMap) -> Iterator[Mapping[str, Any]]:
    """The completions of a row, each with the row's own fields. Raises Unusable."""
    if mapping.each is None:
        yield row
        return
    name, listed = at(row, mapping.each)
    if not isinstance(listed, list) or not listed:
        raise Unusable("no-completion", name, "nothing" if listed is ABSENT else listed)
    for one in listed:
        yield {**row, "each": one}


def take(number: int, row: Mapping[str, Any], mapping: LogMap) -> Taken:
    """What a row says; its repairs stand in `notes`. Raises Unusable."""
    notes: list[Note] = []

    def say(rule: str, where: str, found: object) -> None:
        notes.append(Note.of(number, where, rule, found))

    asked, answer = _both(row, mapping, say)
    finish = _finish(row, mapping, say)
    before, tokens = _tokens(row, mapping)
    text = _completion(answer, bool(tokens))
    prompt = _prompt(row, mapping, asked, before, say)
    name, value = at(row, mapping.logps)
    logged = values.logged(value, name, say)
    scores = _scores(row, mapping, say)
    reward = _reward(scores, mapping, say)
    step = at(row, mapping.step)
    version = at(row, mapping.version)
    return Taken(
        row=number,
        prompt=prompt,
        text=text,
        finish=finish,
        tokens=tokens,
        logged=logged,
        scores=scores,
        reward=reward,
        transform=_transform(row, mapping),
        step=0 if step[1] in (ABSENT, None) else values.whole(step[1], step[0], "bad-number", 2**62),
        version="" if version[1] in (ABSENT, None, "") else values.word(version[1], version[0], "bad-field"),
        notes=notes,
    )


Asked = str | tuple[Message, ...]


def _both(row: Mapping[str, Any], mapping: LogMap, say: values.Say) -> tuple[Asked, tuple[str, Any]]:
    """What was asked, and the field and value of the answer."""
    if mapping.messages is not None:
        name, value = at(row, mapping.messages)
        if value in (ABSENT, None):
            raise Unusable("no-prompt", name, "nothing")
        return _parted(values.turns(value, name, say), name, say)
    name, value = at(row, mapping.prompt)
    name_of_answer, answer = at(row, mapping.completion)
    if isinstance(answer, list) and answer:
        if len(answer) != 1:
            raise Unusable("several-turns", name_of_answer, f"{len(answer)} turns")
        (turn,) = values.turns(answer, name_of_answer, say)
        if turn.role != "assistant":
            raise Unusable("bad-turns", f"{name_of_answer}.0.role", turn.role)
        answer = turn.content
    if isinstance(value, list):
        asked = values.turns(value, name, say)
        if asked[-1].role != "user":
            raise Unusable("bad-turns", name, f"a prompt that ends with role {asked[-1].role}")
        return asked, (name_of_answer, answer)
    text = values.text(value, name, "no-prompt")
    return (text if mapping.form == "text" else (Message("user", text),)), (name_of_answer, answer)


def _parted(turns: tuple[Message, ...], name: str, say: values.Say) -> tuple[Asked, tuple[str, Any]]:
    places = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
    if not places:
        raise Unusable("no-completion", name, "no turn of the assistant")
    last = places[-1]
    if last == 0 or turns[last - 1].role != "user":
        raise Unusable("no-prompt", name, "an answer without a user's turn before it")
    if last + 1 < len(turns):
        say("later-turns", name, f"{len(turns) - last - 1} after the last answer")
    return turns[:last], (f"{name}.{last}.content", turns[last].content)


def _completion(answer: tuple[str, Any], has_tokens: bool) -> str:
    name, value = answer
    if has_tokens and value == "":
        return ""
    return values.text(value, name, "no-completion")


def _finish(row: Mapping[str, Any], mapping: LogMap, say: values.Say) -> Finish:
    name, value = at(row, mapping.status)
    if value not in (ABSENT, None):
        values.finish(value, name, say if mapping.status != mapping.finish else lambda *_: None)
    name, value = at(row, mapping.finish)
    return values.finish(value, name, say)


def _tokens(row: Mapping[str, Any], mapping: LogMap) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The token ids of prompt and completion, none where they are not logged."""
    name, value = at(row, mapping.joined_tokens)
    if value not in (ABSENT, None, []):
        every = values.ids(value, name)
        name, length = at(row, mapping.length)
        count = values.whole(length, name, "bad-length")
        if not 0 < count < len(every):
            raise Unusable("bad-length", name, f"{count} of {len(every)} tokens")
        before, done = every[:-count], every[-count:]
    else:
        name, value = at(row, mapping.tokens)
        done = () if value in (ABSENT, None) else values.ids(value, name)
        name, value = at(row, mapping.prompt_tokens)
        before = () if value in (ABSENT, None) else values.ids(value, name)
    name, mask = at(row, mapping.mask)
    short = isinstance(mask, list) and len(mask) != len(done) and bool(done)
    if mask not in (ABSENT, None) and (not isinstance(mask, list) or short or any(one != 1 for one in mask)):
        raise Unusable("masked-tokens", name, mask)
    return before, done


def _prompt(row: Mapping[str, Any], mapping: LogMap, asked: Asked, tokens: tuple[int, ...], say: values.Say) -> Prompt:
    turns = asked if isinstance(asked, tuple) else ()
    text = asked if isinstance(asked, str) else None
    name, value = at(row, mapping.id)
    if value in (ABSENT, None):
        content = json.dumps([text, [(turn.role, turn.content) for turn in turns]])
        label = "log:" + hashlib.sha256(content.encode()).hexdigest()[:16]
    elif isinstance(value, str | int) and not isinstance(value, bool):
        label = values.text(str(value), name, "bad-field")
    else:
        raise Unusable("bad-field", name, value)
    name, answer = at(row, mapping.answer)
    right = None if answer in (ABSENT, None, "") else values.word(answer, name, "bad-text")
    return Prompt(label, turns, text, right, dict(_kept(row, mapping, say)), tokens)


def _kept(row: Mapping[str, Any], mapping: LogMap, say: values.Say) -> Iterator[tuple[str, Any]]:
    """The further columns, as JSON."""
    for column in mapping.columns:
        name, value = at(row, column)
        if value is ABSENT:
            continue
        bad: list[str] = []
        try:
            kept = plain(value, name, bad)
        except RecursionError:
            kept, bad = None, [name]
        for place in bad:
            say("bad-column", place, at(row, place)[1])
        yield column, kept


def with_rest(mapping: LogMap, rows: Iterable[Mapping[str, Any]]) -> LogMap:
    """The mapping with every other field that holds a number in some row as a score, where it asks for that."""
    if mapping.rest is None:
        return mapping
    used = {one.strip() for path in mapping.paths().values() for one in path.split("|")}
    used |= {*mapping.columns, *mapping.rest}
    names = {name for row in rows for name, value in row.items() if isinstance(value, bool | int | float)}
    return mapping.model_copy(update={"scores": {**mapping.scores, **{name: name for name in sorted(names - used)}}})


def _scores(row: Mapping[str, Any], mapping: LogMap, say: values.Say) -> dict[str, Score]:
    found = {}
    for source, path in mapping.scores.items():
        name, value = at(row, path)
        found[source] = values.score(value, name, say)
    return found


def shares_of(mapping: LogMap) -> dict[str, float]:
    """The share of each score in the reward."""
    return mapping.weights or dict.fromkeys(mapping.scores, 1.0)


def _reward(scores: Mapping[str, Score], mapping: LogMap, say: values.Say) -> float | None:
    reward = combine(scores, shares_of(mapping)) if scores else None
    if reward is None or math.isfinite(reward):
        return reward
    say("bad-score", " + ".join(scores), f"scores whose sum is {reward}")
    return None


def _transform(row: Mapping[str, Any], mapping: LogMap) -> Transform:
    numbers: list[float] = []
    for name, low, high in (("temperature", 0.0, 1e6), ("top_p", 1e-12, 1.0), ("top_k", -1.0, 2.0**31 - 1)):
        said = getattr(mapping, name)
        where, value = at(row, said) if isinstance(said, str) else (name, ABSENT if said is None else said)
        if value in (ABSENT, None):
            return Transform(known=False)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Unusable("bad-transform", where, value)
        numbers.append(float(value))
    if not numbers[2].is_integer():
        raise Unusable("bad-transform", "top_k", numbers[2])
    return Transform(numbers[0], numbers[1], max(int(numbers[2]), 0))  # some engines write -1 for none
