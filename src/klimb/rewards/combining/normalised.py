"""Sources brought to one scale by their running mean and spread, then summed by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from klimb.rewards.combining.base import Combiner, Combining, Groups, Opening, Rewards, Row, spread, table
from klimb.types import Prompt

if TYPE_CHECKING:
    from torch import Tensor


class Normalised(Combining):
    """sum of weight times (score - m) / s, with m and s of all scores so far, those of this step included."""

    type: Literal["normalised"] = "normalised"
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """What earlier scores still count after each step; 1 = as much as new ones."""
    least: Annotated[float, Field(gt=0.0)] = 1e-6
    """The smallest s that is divided by."""

    def open(self, opening: Opening) -> Combiner:
        return Scales(self, opening)


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared distances from it, of each source (k)."""

    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Moments:
        """Those of some scores (n, k)."""
        mean = values.mean(0) if len(values) else np.zeros(values.shape[1])
        return cls(np.full(values.shape[1], float(len(values))), mean, ((values - mean) ** 2).sum(0))

    def with_more(self, other: Moments, decay: float) -> Moments:
        """Both together (Chan et al., 1979), these faded by `decay`."""
        before, squares = self.count * decay, self.squares * decay
        count = before + other.count
        share = other.count / np.maximum(count, 1e-300)
        apart = other.mean - self.mean
        return Moments(count, self.mean + apart * share, squares + other.squares + apart**2 * before * share)

    def deviation(self) -> NDArray[np.float64]:
        """The standard deviation of each source (of the population)."""
        spread: NDArray[np.float64] = np.sqrt(self.squares / np.maximum(self.count, 1e-300))
        return spread


class Scales(Combiner):
    """The opened way: it keeps the moments."""

    def __init__(self, settings: Normalised, opening: Opening) -> None:
        super().__init__(settings, opening)
        self._own = settings
        self._moments = Moments.of(np.zeros((0, len(self.needed))))
        self._next: Moments | None = None

    @property
    def keeper(self) -> Scales:
        return self

    def rewards(self, step: int, prompts: Sequence[Prompt], groups: Groups, first: int = 0) -> Rewards:
        named = self._rows(step, prompts, groups, first)
        seen = Moments.of(table([row for rows in named for row in rows if row is not None], self.needed))
        base, decay = (self._moments, self._own.decay) if self._next is None or first == 0 else (self._next, 1.0)
        now = self._next = base.with_more(seen, decay)
        weights = np.array([self.opening.weights[name] for name in self.needed])
        scale = weights / np.maximum(now.deviation(), self._own.least)

        def combine(rows: Sequence[Row]) -> list[float]:
            made: list[float] = ((table(rows, self.needed) - now.mean) @ scale).tolist()
            return made

        return [spread(rows, combine) for rows in named]

    def observe(self, step: int, loss: float | None) -> dict[str, float]:
        if self._next is not None:
            self._moments, self._next = self._next, None
        spread_of = zip(self.needed, self._moments.mean.tolist(), self._moments.deviation().tolist(), strict=True)
        return {f"combining/{what}_{name}": v for name, m, s in spread_of for what, v in (("mean", m), ("scale", s))}

    def state(self) -> Mapping[str, Tensor]:
        """The moments."""
        import torch

        m = self._moments
        return {"count": torch.tensor(m.count), "mean": torch.tensor(m.mean), "squares": torch.tensor(m.squares)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts them back. Raises KeyError where they are of other sources."""
        found = {name: state[name].numpy().astype(np.float64) for name in ("count", "mean", "squares")}
        if any(value.shape != (len(self.needed),) for value in found.values()):
            raise KeyError(f"moments of {len(found['mean'])} sources where {len(self.needed)} are combined")
        self._moments, self._next = Moments(**found), None
