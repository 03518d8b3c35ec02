"""A bandit's records in a checkpoint: each array a tensor of the same bits in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from klimb.bandits.state import from_tensors, to_tensors

if TYPE_CHECKING:
    from torch import Tensor


class Kept:
    """Named records of arrays that a run replaces in `records` as it goes on, kept for its checkpoints.

    It is made with the records of the beginning (`begin()`, `no_history()`, `nothing_owed()`), which say what fits.
    """

    def __init__(self, **records: Any) -> None:
        self.kinds = dict(records)
        self.records = records

    def state(self) -> dict[str, Tensor]:
        """Every array of every record, as `record.array`."""
        return {
            f"{name}.{array}": tensor
            for name, record in self.records.items()
            for array, tensor in to_tensors(record).items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts saved records in the place of these, all or none. Raises KeyError where they are of another kind."""
        strangers = {key for key in state if key.partition(".")[0] not in self.records}
        if strangers:
            raise KeyError(f"arrays {sorted(strangers)} belong to none of {sorted(self.records)}")
        self.records = {name: from_tensors(record, _of(name, state)) for name, record in self.kinds.items()}


def _of(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.partition(".")[2]: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
