"""From a row to a question and its answer, by the names of its fields. The rules for values stand here.

A question is a text that is not empty, or a list of messages that ends with the user's turn; an answer is a text or a
finite number (51.0 is written 51). Refused everywhere: null, truth values, NUL, halves of surrogate pairs, more than
a million characters. Everything else that Unicode has is text and goes through unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from klimb.data.base import Question
from klimb.data.faulty import Faults, Unfit, show
from klimb.data.patterns import last_answer
from klimb.errors import DataError
from klimb.nearest import nearest
from klimb.types import Message

LONGEST = 1_000_000
_FIELD = re.compile(r"\{([^{}]+)\}")
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Item:
    """What a row asks, and what its answer is."""

    name: str
    where: str
    question: Question
    answer: str | None
    columns: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The question as text, spaces made one: what train and held-out rows never have in common."""
        turns = self.question if isinstance(self.question, tuple) else (Message("user", self.question),)
        return "\x1f".join(f"{turn.role}:{' '.join(turn.content.split())}" for turn in turns)


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields of a row are what. `template`, where given, joins several fields into the question."""

    prompt: str
    template: str | None
    answer: str | None
    answer_pattern: str | None
    id: str | None
    columns: Sequence[str]

    @property
    def named(self) -> list[str]:
        """Every field that is read."""
        asked = _FIELD.findall(self.template) if self.template else [self.prompt]
        return list(dict.fromkeys([*asked, *filter(None, (self.answer, self.id)), *self.columns]))

    def item(self, row: Mapping[str, Any], where: str, default_name: str, faults: Faults) -> Item | None:
        """The item of a row; None, with every fault of the row added, where it cannot be used."""
        found: dict[str, Any] = {}
        for part, field in (("question", self.template or self.prompt), ("answer", self.answer), ("id", self.id)):
            try:
                found[part] = None if field is None else getattr(self, f"_{part}")(row, field)
            except Unfit as error:
                faults.add(f"{where}, field {field!r}", error.found, error.cure)
            except TimeoutError as error:  # at once: the next rows may take as long
                slow = f"a text for which {self.answer_pattern!r} takes more than a second"
                raise DataError(f"{where}, field {field!r}", slow, "a simpler answer_pattern") from error
        for column in self.columns:
            if column not in row:
                faults.add(f"{where}, field {column!r}", *_missing(row, column))
        if len(found) < 3 or any(column not in row for column in self.columns):
            return None
        kept = {column: row[column] for column in self.columns}
        return Item(found["id"] or default_name, where, found["question"], found["answer"], kept)

    def _question(self, row: Mapping[str, Any], field: str) -> Question:
        if self.template:
            return _FIELD.sub(lambda match: text_of(_get(row, match[1])), self.template)
        value = _get(row, field)
        if isinstance(value, list):
            return _conversation(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise Unfit(f"the number {show(value)}", "a text; is this the right field?")
        return text_of(value)

    def _answer(self, row: Mapping[str, Any], field: str) -> str:
        text = text_of(_get(row, field))
        if self.answer_pattern is None:
            return text
        answer = last_answer(self.answer_pattern, text)
        if answer is None or not answer.strip():
            raise Unfit(f"nothing that fits {self.answer_pattern!r} in {show(text[-60:])}", "correct answer_pattern")
        return answer.strip()

    def _id(self, row: Mapping[str, Any], field: str) -> str:
        return text_of(_get(row, field))


def text_of(value: Any) -> str:
    """A text, or a finite number as a text. Raises Unfit for anything else."""
    if isinstance(value, bool):
        raise Unfit(f"the truth value {str(value).lower()}", 'write it as a text, "yes" or "no"')
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit(f"the number {value}", "a finite number")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if not isinstance(value, str):
        names = {list: "a list", dict: "an object", type(None): "null"}
        raise Unfit(names.get(type(value), f"a {type(value).__name__}"), "a text")
    return _sound(value)


def _sound(text: str) -> str:
    if not text.strip():
        raise Unfit("an empty text" if not text else f"only spaces: {show(text, 20)}", "fill it, or take the row out")
    if len(text) > LONGEST:
        raise Unfit(f"{len(text)} characters", f"at most {LONGEST}")
    if (place := text.find("\0")) >= 0:
        raise Unfit(f"a NUL character at {place + 1}", "take it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unfit(f"half a surrogate pair at {error.start + 1}: {text[error.start]!r}", "mend the text") from error
    return text


def _conversation(value: list[Any]) -> tuple[Message, ...]:
    if not value:
        raise Unfit("an empty list of messages", "at least the user's turn")
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
            raise Unfit(f"message {number} is {show(turn)}", 'an object {"role": ..., "content": ...}')
        if turn["role"] not in _ROLES or (turn["role"] == "system" and number > 1):
            raise Unfit(f"role {show(turn['role'])} in message {number}", "system (first only), user or assistant")
    if value[-1]["role"] != "user":
        raise Unfit(f"a conversation that ends with role {value[-1]['role']!r}", "end it with the user's turn")
    return tuple(Message(turn["role"], text_of(turn["content"])) for turn in value)


def _get(row: Mapping[str, Any], field: str) -> Any:
    if field not in row:
        raise Unfit(*_missing(row, field))
    return row[field]


def _missing(row: Mapping[str, Any], field: str) -> tuple[str, str]:
    near = nearest(field, row)
    has = show(", ".join(map(str, row)) or "nothing", 100)
    return f"no such field; the row has {has}", f"the field {near!r}?" if near else "name a field that is there"
