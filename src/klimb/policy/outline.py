"""What a chat template writes between turns: an answer that spells it could forge one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from klimb.errors import DataError
from klimb.policy.chat import templated
from klimb.policy.markers import MARK
from klimb.types import Prompt


class Outlines:
    """By the roles of a conversation, asked of the template (`whose`: in words) once for each.

    It is what stands around a further turn of a user's, and the tokens that begin the answer to it, a turn of another
    role, as a tool's, and the whole. What stands in a system text or within an answer's turn or a tool's, as the tags
    of thoughts, is in none, unless a user's turn has it.
    """

    def __init__(self, tokenizer: Any, whose: str) -> None:
        self._tokenizer, self._whose = tokenizer, whose
        self._special = {str(kind.content) for kind in tokenizer.added_tokens_decoder.values() if kind.special}
        self._known: dict[tuple[str, ...], str] = {}

    def __call__(self, prompt: Prompt, roles: Sequence[str]) -> str:
        """That of a prompt with turns of these roles, MARK between its parts. Raises DataError."""
        key = tuple(roles)
        if key not in self._known:
            self._known[key] = self._between(prompt, key)
        return self._known[key]

    def _between(self, prompt: Prompt, roles: tuple[str, ...]) -> str:
        further = (*roles, "assistant", "user")
        try:
            return self._around(prompt, further)
        except DataError:  # a template of one answer alone: what stands around the last turn there is
            return self._around(prompt, roles)

    def _around(self, prompt: Prompt, roles: tuple[str, ...]) -> str:
        """What stands around the last of these turns, and begins the answer; all there is where that is not seen."""
        whole = self._written(prompt, (*roles, "assistant"))
        *before, head, end = whole.split(MARK) if MARK in whole else ("", whole)
        if not before:
            return whole
        first, begins, close = self._first(before[0], self._special), [head], self._closed(prompt, roles)
        if close is not None and head.startswith(close):
            begins = [close, self._first(head.removeprefix(close))]
        return MARK.join((*self._others(roles, before, end, close or ""), *begins, first))

    def _closed(self, prompt: Prompt, roles: tuple[str, ...]) -> str | None:
        """What ends a question; None where the template wants an answer to it."""
        try:
            return self._written(prompt, roles).rpartition(MARK)[2]
        except DataError:
            return None

    def _others(self, roles: tuple[str, ...], before: Sequence[str], end: str, close: str) -> Iterator[str]:
        """What stands before the last turn, a user's, and begins turns of other roles than that and an answer's.

        `end` is the end of an answer, `close` that of another turn. Before a first turn may stand a text of the
        template's own, of which the last token is taken, and what follows.
        """
        if len(before) == 1:
            yield self._last(before[0])
        elif roles[-1] == "user" or len(before) != len(roles):
            yield before[-1].removeprefix(end)
        unseen = len(before) < len(roles)  # which turn the template leaves out
        for last, role, text in zip(roles, roles[1:], before[1:], strict=False):
            if unseen or role not in ("user", "assistant", last):  # of two alike, the end of the first would be seen
                yield self._first(text.removeprefix(end).removeprefix(close), self._special)

    def _written(self, prompt: Prompt, roles: tuple[str, ...]) -> str:
        cure = "turns in an order that the template takes, or another model"
        return templated(
            self._tokenizer, prompt, [{"role": role, "content": MARK} for role in roles], self._whose, cure
        )

    def _first(self, text: str, passed: Collection[str] = ()) -> str:
        """The added token with which a text begins, after any of those that are passed over; empty where with none."""
        text = text.lstrip()
        first = max((name for name in self._added() if text.startswith(name)), key=len, default="")
        return self._first(text.removeprefix(first), passed) if first in passed else first

    def _last(self, text: str) -> str:
        """The end of a text, from the last added token in it on; all of it where there is none."""
        return text[max((text.rfind(name) for name in self._added() if name in text), default=0) :]

    def _added(self) -> Iterator[str]:
        return filter(None, (str(kind.content) for kind in self._tokenizer.added_tokens_decoder.values()))
