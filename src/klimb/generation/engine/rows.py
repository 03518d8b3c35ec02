"""The completions that are being drawn: what each has so far, and when it is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from klimb.generation.engine.text import Texts
from klimb.types import Completion, Finish


@dataclass(slots=True)
class Row:
    """One completion on its way: completion `k` of request `request`, at most `limit` tokens long."""

    request: int
    k: int
    seed: int
    limit: int
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finish: Finish | None = None

    def push(self, token: int, logp: float, entropy: float, eos: frozenset[int], texts: Texts) -> None:
        """One more token; `finish` is set if it is the last."""
        self.tokens.append(token)
        self.logps.append(logp)
        self.entropies.append(entropy)
        if token in eos:
            self.finish = Finish.EOS
        elif texts.stopped(self.tokens):
            self.finish = Finish.STOP
        elif len(self.tokens) >= self.limit:
            self.finish = Finish.LENGTH

    def completion(self, texts: Texts) -> Completion:
        """The finished completion."""
        assert self.finish is not None
        text = texts.final(self.tokens, self.finish is Finish.EOS)
        return Completion(tuple(self.tokens), tuple(self.logps), text, self.finish, tuple(self.entropies))


def survivors(rows: Sequence[Row]) -> list[int]:
    """The order that closes the gaps of finished rows with rows from the end, so that few rows move."""
    live = [index for index, row in enumerate(rows) if row.finish is None]
    count = len(live)
    stay = [index for index in live if index < count]
    tail = [index for index in live if index >= count]
    order = list(range(count))
    for hole in sorted(set(range(count)) - set(stay)):
        order[hole] = tail.pop()
    return order
