"""The coefficient of a KL, steered towards a target (Ziegler et al., 1909.08593)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from klimb import functional as F
from klimb.objectives.carried import COEFFICIENT, Control

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.batch import Batch


class Controller:
    """Holds the coefficient; after each step that measured a KL it moves a little."""

    def __init__(self, settings: Control, beta: float) -> None:
        self.settings, self.coefficient = settings, beta
        self.bounds = beta / settings.span, beta * settings.span

    def numbers(self) -> dict[str, float]:
        """The coefficient of the next step."""
        return {COEFFICIENT: self.coefficient}

    def observe(self, batch: Batch, kl: float | None) -> dict[str, float]:
        """Moves the coefficient up where the KL was above its target, down where it was below."""
        used, s = self.coefficient, self.settings
        if kl is not None:
            moved = F.moving.proportional(used, kl, s.target, s.gain, s.limit)
            self.coefficient = min(max(moved, self.bounds[0]), self.bounds[1])
        return {"objective/kl_coefficient": used}

    def state(self) -> dict[str, Tensor]:
        """The coefficient."""
        return {"coefficient": torch.tensor(self.coefficient, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts it back."""
        self.coefficient = float(state["coefficient"])
