"""A text of which a model has written a part: what is written there is never read as a token that structures a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import combining, normalize

from klimb.errors import DataError

if TYPE_CHECKING:
    from klimb.policy.classifier import Text

MARK = "\ue000written\ue000"
"""Stands in a text for what a model has written there."""
SPACE = "\u2581"
"""Stands for a space in SentencePiece's tokens."""


class Markers:
    """The tokens by which an answer that spells them could forge a turn. Texts without any are read as ever.

    Special tokens are read as text in an answer. Other added tokens no tokenizer reads so: an answer with one that the
    `outline` of the texts has, such as `<|User|>`, is not read at all; one that it has not, as the tags of thoughts,
    is read wherever it stands. So is one of white space, which separates lines in answers, too. So are markers that are
    plain text, as `[INST]`: against them nothing is done.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, unknown = tokenizer, _unknown(tokenizer)
        added = {int(token): kind for token, kind in tokenizer.added_tokens_decoder.items() if int(token) != unknown}
        self._numbers = {str(kind.content): token for token, kind in added.items() if kind.special}
        others = {token: str(kind.content) for token, kind in added.items() if not kind.special}
        self._others = {token: name for token, name in others.items() if name.replace(SPACE, " ").strip()}
        self._known: dict[str, set[int]] = {}
        longest = sorted(self._numbers, key=len, reverse=True)
        self._each = re.compile(f"({'|'.join(map(re.escape, longest)) or '(?!)'})")
        names = {*self._numbers, *self._others.values()}
        self._any = re.compile("|".join(map(re.escape, sorted({*names, *map(_folded, names)}))) or "(?!)")

    def read(self, text: str, frame: str, outline: str, *, closed: bool) -> Text:
        """What the tokenizer makes of `text`, with its own tokens at both ends where `closed`.

        `frame` is the text with MARK in place of what the model wrote, `outline` is what stands between turns. Raises
        DataError where the tokenizer cannot read that as text, or reads the frame as other tokens where it is cut at
        its special ones.
        """
        ready: Text = self._tokenizer(text, add_special_tokens=closed, verbose=False)
        outside = self._ids(frame, closed)
        self.check(ready["input_ids"], outline, outside)
        if not (more := self._more(ready["input_ids"], outside)):
            return ready
        pieces, plain = self._pieces(text, frame), self._joined(self._each.split(frame))
        starts = range(len(outside) - len(plain) + 1)
        at = next((start for start in starts if outside[start : start + len(plain)] == plain), None)
        if pieces is None or at is None:
            raise self._forgery(more)
        ids = [*outside[:at], *self._joined(pieces), *outside[at + len(plain) :]]
        self._check(ids, outside)
        return {"input_ids": ids}

    def check(self, ids: Sequence[int], outline: str, outside: Sequence[int] = ()) -> None:
        """Raises DataError where an added token of the outline, not special, is more often in `ids` than `outside`."""
        if outline not in self._known:
            self._known[outline] = self._others.keys() & set(self._ids(outline, closed=False))
        if more := set(Counter(ids) - Counter(outside)) & self._known[outline]:
            raise _forged("tokens between turns", sorted(self._others[token] for token in more))

    def spelled(self, text: str) -> bool:
        """Whether a text may have one of all these tokens, which is seen without reading it as tokens."""
        return bool(self._any.search(text) or self._any.search(_folded(text)))

    def rest(self, text: str, frame: str) -> int:
        """How many tokens a text has from what the model wrote on; all, where the frame does not show where that is."""
        head, mark, tail = frame.partition(MARK)
        return len(self._joined(self._pieces(text.removeprefix(head), mark + tail) or [text]))

    def pair(self, first: str, second: str, **how: Any) -> Text:
        """What the tokenizer makes of a pair of texts, neither of which it searches for special tokens."""
        ready: Text = self._tokenizer(first, second, split_special_tokens=True, verbose=False, **how)
        self._check(ready["input_ids"], self._tokenizer("a", "b")["input_ids"])
        return ready

    def alone(self, text: str) -> list[int]:
        """The token ids of a text that a model wrote, and nothing beside it. Raises DataError as above."""
        ids = self._joined([text])
        self._check(ids, ())
        return ids

    def _more(self, ids: Sequence[int], outside: Sequence[int]) -> set[int]:
        """The special tokens that `ids` have more often."""
        return set(Counter(ids) - Counter(outside)) & set(self._numbers.values())

    def _check(self, ids: Sequence[int], outside: Sequence[int]) -> None:
        if more := self._more(ids, outside):
            raise self._forgery(more)

    def _forgery(self, more: Collection[int]) -> DataError:
        return _forged("special tokens", [name for name, token in self._numbers.items() if token in more])

    def _pieces(self, text: str, frame: str) -> list[str] | None:
        """Texts at even places, the frame's special tokens between; None where the text does not go with the frame."""
        head, tail = frame.partition(MARK)[0], frame.rpartition(MARK)[2]
        fits = text.startswith(head) and text.endswith(tail) and len(text) >= len(head) + len(tail)
        if MARK not in frame or not fits:
            return None
        start, end = self._each.split(head), self._each.split(tail)
        return [*start[:-1], start[-1] + text[len(head) : len(text) - len(tail)] + end[0], *end[1:]]

    def _joined(self, pieces: Sequence[str]) -> list[int]:
        plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        found: list[int] = []
        for place, piece in enumerate(pieces):
            found += [self._numbers[piece]] if place % 2 else self._tokenizer(piece, **plain)["input_ids"]
        return found

    def _ids(self, text: str, closed: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=closed, verbose=False)["input_ids"]
        return ids


def _forged(kind: str, names: Sequence[str]) -> DataError:
    asked, cure = "read an answer as text, whatever it spells", "a reward model with another tokenizer"
    return DataError(asked, f"{kind} ({', '.join(names)}), which this tokenizer cannot read so", cure)


def _folded(text: str) -> str:
    """A text as tokenizers may read it: letters of one form and case, without accents."""
    if text.isascii():
        return text.casefold()
    return "".join(letter for letter in normalize("NFKD", normalize("NFKD", text).casefold()) if not combining(letter))


def _unknown(tokenizer: Any) -> int | None:
    """The token for what the tokenizer does not know; None where it knows every byte, whatever it calls unknown."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    known = getattr(model, "byte_fallback", False) or not getattr(model, "unk_token", tokenizer.unk_token)
    return None if known else tokenizer.unk_token_id
