"""What a chat template writes between turns: an answer that spells it could forge one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from klimb.errors import DataError
from klimb.policy.chat import templated
from klimb.policy.markers import MARK
from klimb.types import Prompt


class Outlines:
    """By the roles of a conversation, asked of the template (`whose`: in words) once for each.

    It is what stands around a further turn of a user's, and the tokens that begin the answer to it and the whole. What
    stands in a system text or in an answer's turn, as the tags of thoughts, is in none, unless a user's turn has it.
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
        asked, whole = (self._written(prompt, some) for some in (roles, (*roles, "assistant")))
        *before, head, end = whole.split(MARK)
        if not before:
            return whole
        close = asked.rpartition(MARK)[2]
        own = (close, self._first(head.removeprefix(close))) if head.startswith(close) else (head,)
        return MARK.join((before[-1].removeprefix(end), *own, self._first(before[0], self._special)))

    def _written(self, prompt: Prompt, roles: tuple[str, ...]) -> str:
        return templated(self._tokenizer, prompt, [{"role": role, "content": MARK} for role in roles], self._whose, "")

    def _first(self, text: str, passed: Collection[str] = ()) -> str:
        """The added token with which a text begins, after any of those that are passed over; empty where with none."""
        text = text.lstrip()
        names = (str(kind.content) for kind in self._tokenizer.added_tokens_decoder.values())
        first = max((name for name in names if name and text.startswith(name)), key=len, default="")
        return self._first(text.removeprefix(first), passed) if first in passed else first
