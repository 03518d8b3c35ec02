"""Text of a completion while it grows: where a stop string appears, and what is left before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Texts:
    """Decodes completions, and finds the stop strings in them.

    Stop strings are looked for in what is said, which special tokens are no part of: one that is itself a special token
    ends a completion by its id. The text of a finished completion shows the special tokens that stand in it: a reward
    must see what the policy has drawn.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        special = _special_ids(tokenizer)
        self.special = frozenset(special.values())
        self.stop_ids = frozenset(special[text] for text in stop if text in special)
        self.stop = tuple(text for text in stop if text and text not in special)
        # Each token but a special one has a byte of text at least; some more, for the first may lose a leading space.
        self.window = 4 + max((len(text.encode()) for text in self.stop), default=0)

    def stopped(self, tokens: list[int]) -> bool:
        """Whether the last of `tokens` completed a stop string."""
        if tokens and tokens[-1] in self.stop_ids:
            return True
        if not self.stop or not self._cut(tokens[-self.window :])[1]:
            return False
        return self._cut(tokens)[1]

    def final(self, tokens: list[int], ended: bool) -> str:
        """The text of a finished completion, without a closing EOS (`ended`), cut before the first stop string."""
        if ended or (tokens and tokens[-1] in self.stop_ids):
            tokens = tokens[:-1]
        said, stopped = self._cut(tokens)
        if self.special.isdisjoint(tokens):
            return said
        if not stopped:
            return self._decode(tokens, shown=True)
        before = tokens
        while not said.startswith(whole := self._decode(before)):
            before = before[:-1]
        return self._decode(before, shown=True) + said[len(whole) :]

    def _cut(self, tokens: list[int]) -> tuple[str, bool]:
        text = self._decode(tokens)
        places = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def _decode(self, tokens: list[int], *, shown: bool = False) -> str:
        """The text of some tokens, special ones left out unless they are to be shown."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=not shown))


def _special_ids(tokenizer: object) -> dict[str, int]:
    """The special tokens by their text, where the tokenizer tells them."""
    decoder = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token): int(index) for index, token in decoder.items() if getattr(token, "special", False)}
