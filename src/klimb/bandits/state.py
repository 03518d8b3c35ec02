"""What a bandit has learned: a frozen record of float64 arrays, saved and read back to the same bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
FORGOTTEN = 1e-12
"""An arm whose gains have faded to this much of one has none."""


@dataclass(frozen=True)
class State:
    """One record for every bandit; what a method does not use stays at zero, or has dimension zero.

    K arms, d numbers in a context. `count[K]`: choices that are over. `owed[K]`: those whose gain is not in yet.
    `pulls[K]`, `total[K]`: gains seen and their sum, both fading by the discount. `log_weight[K]`: Exp3. The linear
    ones: `gram[K, d, d]` (the papers' A), `moment[K, d]` (b), `inverse[K, d, d]` of `gram`, `stale[K]`: updates since
    it was solved afresh.
    """

    count: Vector
    owed: Vector
    pulls: Vector
    total: Vector
    log_weight: Vector
    gram: Matrix
    moment: Matrix
    inverse: Matrix
    stale: Vector

    @property
    def arms(self) -> int:
        """How many arms there are."""
        return len(self.count)

    def mean(self) -> Vector:
        """The mean gain of each arm; that of all arms where an arm has none; zero where none has."""
        known = self.pulls > FORGOTTEN
        overall = self.total[known].sum() / self.pulls[known].sum() if known.any() else 0.0
        return np.where(known, self.total / np.where(known, self.pulls, 1.0), overall)


def blank(arms: int, dimension: int, ridge: float = 1.0) -> State:
    """Nothing learned yet: A = ridge I, everything else zero."""
    zero, start = np.zeros(arms), np.tile(np.eye(dimension), (arms, 1, 1))
    return State(zero, zero, zero, zero, zero, ridge * start, np.zeros((arms, dimension)), start / ridge, zero)


R = TypeVar("R", bound="State | Any")


def arrays(record: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a frozen record of arrays, by field."""
    return {field.name: np.asarray(getattr(record, field.name)) for field in fields(record)}


def restored(like: R, found: Arrays) -> R:
    """A record of the kind of `like` from its arrays. Raises KeyError where they are those of something else.

    `like` is the record of the beginning: an axis that is empty there (a history, a list) may have any length.
    """
    wanted = arrays(like)
    if set(found) != set(wanted):
        raise KeyError(f"arrays {sorted(found)} where {sorted(wanted)} belong")
    for name, mine in wanted.items():
        other = found[name]
        free = mine.ndim > 0 and len(mine) == 0 and other.ndim == mine.ndim
        fits = other.shape[1:] == mine.shape[1:] if free else other.shape == mine.shape
        if not fits or other.dtype != mine.dtype:
            raise KeyError(f"`{name}` is {other.dtype}{other.shape} where {mine.dtype}{mine.shape} belongs")
    return type(like)(**{name: np.array(found[name]) for name in wanted})


def to_json(record: Any) -> str:
    """A record as JSON; numbers are written so that their bits come back. Raises ValueError if not finite."""
    plain = {
        name: {"dtype": str(array.dtype), "shape": array.shape, "values": array.ravel().tolist()}
        for name, array in arrays(record).items()
    }
    return json.dumps(plain, allow_nan=False)


def from_json(like: R, text: str) -> R:
    """The record of the kind of `like` that `to_json` wrote. Raises KeyError where it is that of something else."""
    plain = json.loads(text)
    found = {name: np.array(each["values"], each["dtype"]).reshape(each["shape"]) for name, each in plain.items()}
    return restored(like, found)


def to_tensors(record: Any) -> dict[str, Tensor]:
    """A record as tensors of the same bits, for a safetensors file."""
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in arrays(record).items()}


def from_tensors(like: R, tensors: Mapping[str, Tensor]) -> R:
    """The record of the kind of `like` that `to_tensors` gave. Raises KeyError where it is that of something else."""
    return restored(like, {name: tensor.numpy() for name, tensor in tensors.items()})
