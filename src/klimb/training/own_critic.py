"""A critic with a model of its own, in training: what updates it is its alone, and nothing of it moves the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from klimb.training.updater import open_updater

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from klimb.batch import Batch
    from klimb.objectives.critics import ValueModel as Wanted
    from klimb.policy.value_model import ValueModel
    from klimb.shapes import PerToken
    from klimb.training.base import AnyOptimizer

WEIGHTS, UPDATES = "weights.", "updates"
"""What the names of weights begin with in a saved state, beside those of the moments; the number of updates in it."""


class OwnCritic:
    """Values by a model of its own, and the optimizer of that model: its moments, norm and clip are its. A keeper."""

    def __init__(self, model: ValueModel, settings: AnyOptimizer, lr: float | None = None) -> None:
        self.model = model
        self.schedule = settings if lr is None else settings.model_copy(update={"lr": lr})
        """The optimizer's settings, at its own learning rate where there is one."""
        self.optimizer = open_updater(self.schedule, model.named_parameters())

    def __call__(self, batch: Batch) -> PerToken:
        """The value before each token (t), float32, differentiable."""
        return self.model(batch)

    def state(self) -> Mapping[str, Tensor]:
        """Its weights, in float32, its moments, and how many updates it has had."""
        weights = {f"{WEIGHTS}{name}": weight for name, weight in self.optimizer.master.items()}
        return weights | self.optimizer.state() | {UPDATES: torch.tensor(self.optimizer.count)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts a saved state back, in place. Raises KeyError where it is of another model or optimizer.

        That of another model changes nothing.
        """
        weights = {name.removeprefix(WEIGHTS): held for name, held in state.items() if name.startswith(WEIGHTS)}
        self.model.check(weights)
        self.optimizer.restore(weights, state, int(state[UPDATES]))


def open_own(model: ValueModel | None, wanted: Wanted | None, settings: AnyOptimizer) -> OwnCritic | None:
    """The critic with a model of its own and its optimizer, where there is one."""
    return None if model is None or wanted is None else OwnCritic(model, settings, wanted.lr)
