"""What every way of combining is: from the named scores of a group's answers to one reward each, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.seeds import seed_of
from klimb.types import Prompt, Score

if TYPE_CHECKING:
    from collections.abc import Callable

Named = Mapping[str, Score]
"""The scores of one answer, by the name of their source."""
Row = Mapping[str, float]
"""The numbers of one answer whose needed sources have all scored."""
Groups = Sequence[Sequence[Named]]
"""For each prompt the scores of its answers."""
Rewards = list[list[float | None]]
"""For each prompt the rewards of its answers; None where a needed source gave no score."""
States = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Opening:
    """What a way of combining works with: the weights of the sources by name, the run's seed, states of prompts."""

    weights: Mapping[str, float]
    seed: int = 0
    initial: Callable[[Sequence[Prompt]], States] | None = None
    """The last-token state of each prompt (n, d) under the initial policy."""
    current: Callable[[Sequence[Prompt]], States] | None = None
    """The same under the policy as it is."""


class Combiner:
    """A way of combining, opened. This one asks every source and keeps nothing from step to step."""

    def __init__(self, settings: Combining, opening: Opening) -> None:
        self.settings, self.opening = settings, opening
        self.needed = settings.needs(opening.weights)

    @property
    def keeper(self) -> Any:
        """What a checkpoint holds of it; None where that is nothing."""
        return None

    def wanted(self, step: int, prompts: Sequence[Prompt], first: int = 0) -> list[frozenset[str]] | None:
        """Which sources are to score the answers to each prompt; None = all of them.

        `first`: how many prompts this step has asked before these, in earlier rounds of dynamic sampling.
        """
        return None

    def rewards(self, step: int, prompts: Sequence[Prompt], groups: Groups, first: int = 0) -> Rewards:
        """The rewards. Nothing that is carried changes before `observe`: a step may be done again."""
        return [
            spread(rows, lambda whole: self.settings.combined(step, whole, self.opening.weights))
            for rows in self._rows(step, prompts, groups, first)
        ]

    def observe(self, step: int, loss: float | None) -> dict[str, float]:
        """Told at the end of a step, with its training loss where there is one; gives what is to be shown of it."""
        return {}

    def _rows(self, step: int, prompts: Sequence[Prompt], groups: Groups, first: int) -> list[list[Row | None]]:
        """The numbers of every answer."""
        return [
            [self._row(step, place_of(prompt, first + number, k), named) for k, named in enumerate(group)]
            for number, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
        ]

    def _row(self, step: int, where: str, named: Named) -> Row | None:
        """The numbers of an answer, with the noise that is asked for; None where a needed source has no score."""
        found: dict[str, float] = {}
        for name in self.needed:
            score = named.get(name)
            if score is None or score.value is None:
                return None
            found[name] = score.value + self._noise(name, step, where)
        return found

    def _noise(self, name: str, step: int, where: str) -> float:
        sigma = self.settings.noise.get(name, 0.0)
        if sigma == 0.0:
            return 0.0
        key = seed_of("noise", self.opening.seed, step, where, name)
        return sigma * float(np.random.Generator(np.random.Philox(key=key)).standard_normal())


class Combining(Settings):
    """Settings of a way of combining."""

    noise: dict[str, Annotated[float, Field(ge=0.0)]] = {}  # noqa: RUF012 pydantic copies it
    """Standard deviation of the normal noise that is added to a source's scores, for experiments."""

    def open(self, opening: Opening) -> Combiner:
        """The way of combining, ready."""
        return Combiner(self, opening)

    def needs(self, weights: Mapping[str, float]) -> tuple[str, ...]:
        """The sources without whose score an answer has no reward."""
        return tuple(name for name, weight in weights.items() if weight != 0)

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        """The rewards of the answers to one prompt, of which every needed source has a score."""
        raise NotImplementedError

    def conflicts(self, weights: Mapping[str, float]) -> Iterator[KlimbError]:
        """What does not go together with the sources that there are."""
        yield from unknown("combining.noise", self.noise, weights)


def place_of(prompt: Prompt, number: int, k: int) -> str:
    """Which answer of a step it is: the k-th to the prompt asked as number so many. Noise is a function of it."""
    return f"{prompt.id} {number} {k}"


def spread(rows: Sequence[Row | None], combine: Callable[[list[Row]], list[float]]) -> list[float | None]:
    """What `combine` makes of the rows that are whole, in their places; None in the others."""
    whole = [row for row in rows if row is not None]
    made = iter(combine(whole) if whole else [])
    return [None if row is None else next(made) for row in rows]


def table(rows: Sequence[Row], names: Sequence[str]) -> NDArray[np.float64]:
    """The numbers (rows, sources)."""
    return np.array([[row[name] for name in names] for row in rows], np.float64).reshape(len(rows), len(names))


def weighted_sum(row: Row, weights: Mapping[str, float]) -> float:
    """sum of weight times value over the sources with a weight, in their order."""
    total = 0.0
    for name, weight in weights.items():
        if weight != 0:
            total += weight * row[name]
    return total


def unknown(where: str, names: Mapping[str, Any] | Sequence[str], weights: Mapping[str, float]) -> Iterator[KlimbError]:
    """A fault for each name that is no source's."""
    for name in names:
        if name not in weights:
            yield KlimbError(
                f"{where} names reward {name!r}", f"rewards: {', '.join(weights) or 'none'}", "one of them"
            )
