"""A text of which a model has written a part: what is written there is never read as a token that structures a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from klimb.errors import DataError

if TYPE_CHECKING:
    from klimb.policy.classifier import Text

MARK = "\ue000written\ue000"
"""Stands in a text for what a model has written there."""


class Markers:
    """A tokenizer's special tokens: an answer that spells one could forge a turn. Texts without any are read as ever.

    Added tokens that are not called special, such as the tags of tools and thoughts, are read wherever they stand.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, added = tokenizer, tokenizer.added_tokens_decoder
        unknown = tokenizer.unk_token_id
        kinds = {int(token): kind for token, kind in added.items() if kind.special and token != unknown}
        self._numbers = {str(kind.content): token for token, kind in kinds.items()}
        longest = sorted(self._numbers, key=len, reverse=True)
        self._each = re.compile("(" + "|".join(map(re.escape, longest)) + ")")

    def read(self, text: str, frame: str, *, closed: bool) -> tuple[Text, int | None]:
        """What the tokenizer makes of `text`, with its own tokens at both ends where `closed`.

        `frame` is the text with MARK in place of what the model wrote. Beside it, how many tokens stand from there to
        the end, where that had to be read apart. Raises DataError where the tokenizer cannot read it as text.
        """
        ready: Text = self._tokenizer(text, add_special_tokens=closed, verbose=False)
        ids, outside = ready["input_ids"], self._ids(frame, closed)
        if self._special(ids) == self._special(outside):
            return ready, None
        head, tail = frame.partition(MARK)[0], frame.rpartition(MARK)[2]
        aligned = MARK in frame and text.startswith(head) and text.endswith(tail)
        if aligned and len(text) >= len(head) + len(tail):
            before, after = self._apart(text, head, tail)
            if closed:
                plain = self._ids(frame, False)
                first = next(k for k in range(len(outside)) if outside[k : k + len(plain)] == plain)
                before, after = [*outside[:first], *before], [*after, *outside[first + len(plain) :]]
            if self._special([*before, *after]) == self._special(outside):
                return {"input_ids": [*before, *after]}, len(after)
        raise self._forged(ids, self._special(outside))

    def pair(self, first: str, second: str, **how: Any) -> Text:
        """What the tokenizer makes of a pair of texts, neither of which it searches for special tokens."""
        ready: Text = self._tokenizer(first, second, split_special_tokens=True, verbose=False, **how)
        own = self._special(self._tokenizer("a", "b")["input_ids"])
        if len(self._special(ready["input_ids"])) > len(own):
            raise self._forged(ready["input_ids"], own)
        return ready

    def alone(self, text: str) -> list[int]:
        """The token ids of a text that a model wrote, and nothing beside it. Raises DataError as above."""
        ids = self._joined([text])
        if self._special(ids):
            raise self._forged(ids, ())
        return ids

    def _forged(self, ids: Sequence[int], own: Sequence[int]) -> DataError:
        more = Counter(ids) - Counter(own)
        found = ", ".join(sorted(name for name, token in self._numbers.items() if token in more))
        asked, cure = "read an answer as text, whatever it spells", "a reward model with another tokenizer"
        return DataError(asked, f"special tokens ({found}) that this tokenizer reads in any text", cure)

    def _apart(self, text: str, head: str, tail: str) -> tuple[list[int], list[int]]:
        """The ids up to the head's last special token, and all that follow: no other is read before the tail's first.

        Cut there, as a tokenizer itself cuts, the texts between have the tokens that they have in the whole.
        """
        start, end = self._each.split(head), self._each.split(tail)  # texts at even places, special tokens between
        written = start[-1] + text[len(head) : len(text) - len(tail)] + end[0]
        return self._joined(start[:-1]), self._joined([written, *end[1:]])

    def _joined(self, pieces: list[str]) -> list[int]:
        plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        found: list[int] = []
        for place, piece in enumerate(pieces):
            found += [self._numbers[piece]] if place % 2 else self._tokenizer(piece, **plain)["input_ids"]
        return found

    def _special(self, ids: Sequence[int]) -> list[int]:
        own = set(self._numbers.values())
        return [token for token in ids if token in own]

    def _ids(self, text: str, closed: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=closed, verbose=False)["input_ids"]
        return ids
