"""What a run carries from step to step beside its weights: each such thing keeps a file in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Keeper(Protocol):
    """Something with a state that a run needs to go on to the same bits: a controller, a reference, a critic.

    One whose state was made for the run's own data and settings has `own = True`: a fork begins it anew.
    """

    def state(self) -> Mapping[str, Tensor]:
        """All of it, by name, for a safetensors file; numbers as float64 or int64 tensors. May be empty."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts a saved state back, in place. Raises KeyError where it is that of something else."""
        ...


def is_own(keeper: Keeper) -> bool:
    """Whether its state was made for the run's own data and settings, so that a fork begins it anew."""
    return bool(getattr(keeper, "own", False))
