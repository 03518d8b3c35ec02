"""What is carried from step to step for an objective: numbers that its batches get, and the mean of past rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from klimb import functional as F
from klimb.batch import Batch
from klimb.objectives.carried import BASELINE
from klimb.training.keeping import Keeper

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.objectives.carried import Carried

Named = Callable[[], Iterable[tuple[str, "Tensor"]]]


class Carrier(Keeper, Protocol):
    """A keeper that gives numbers to the next batch and learns from the last one."""

    def numbers(self) -> Mapping[str, float]:
        """What the next batch is given, by the names in `objectives/carried.py`."""
        ...

    def observe(self, batch: Batch, kl: float | None) -> Mapping[str, float]:
        """Takes a step into account: its batch, its mean `policy/kl_ref` (None: nothing learned); gives metrics."""
        ...


@dataclass(slots=True)
class MovingBaseline:
    """The mean reward of earlier steps, each step keeping `decay` of it."""

    decay: float
    total: float = 0.0
    count: int = 0

    def numbers(self) -> dict[str, float]:
        return {BASELINE: F.moving.unbiased(self.total, self.count, self.decay)}

    def observe(self, batch: Batch, kl: float | None) -> dict[str, float]:
        used = self.numbers()[BASELINE]
        if bool(batch.scored.any()):
            mean = float(batch.reward[batch.scored].double().mean())
            self.total, self.count = F.moving.average(self.total, mean, self.decay), self.count + 1
        return {"objective/baseline": used}

    def state(self) -> dict[str, Tensor]:
        return {"total": torch.tensor(self.total, dtype=torch.float64), "count": torch.tensor(self.count)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.total, self.count = float(state["total"]), int(state["count"])


def open_carriers(wanted: Carried, policy: Named, reference: Named | None) -> dict[str, Carrier]:
    """What an objective wants carried, by the name of its file in a checkpoint."""
    from klimb.training.controller import Controller
    from klimb.training.references import Refreshed

    made: dict[str, Carrier] = {}
    if wanted.decay is not None:
        made["baseline"] = MovingBaseline(wanted.decay)
    if wanted.control is not None:
        made["controller"] = Controller(wanted.control, wanted.beta)
    if wanted.refresh is not None:
        assert reference is not None, "an objective that refreshes its reference has one"
        made["reference"] = Refreshed(wanted.refresh, policy, reference)
    return made
