"""A reference policy that becomes the current one now and then: every K steps, or once the KL to it has grown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from klimb import functional as F
from klimb.objectives.carried import Refresh

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.batch import Batch
    from klimb.training.carrying import Named

WEIGHT = "weight."
"""Before the name of each of the reference's weights, which are kept once they are no longer the initial ones."""


class Refreshed:
    """Copies the policy's weights into the reference's, in place, when its settings say so."""

    def __init__(self, settings: Refresh, policy: Named, reference: Named) -> None:
        self.settings, self._policy, self._reference = settings, policy, reference
        self.age, self.moving, self.initial = 0, 0.0, True

    def numbers(self) -> dict[str, float]:
        """None: the objective sees the reference through its log-probs."""
        return {}

    def observe(self, batch: Batch, kl: float | None) -> dict[str, float]:
        """Counts the step and its KL, and refreshes where that is due."""
        self.age += 1
        if kl is not None:
            self.moving = F.moving.average(self.moving, kl, self.settings.decay)
        told = {"policy/reference_age": float(self.age), "policy/kl_moving": self.moving}
        grown = self.settings.kappa > 0 and self.moving > self.settings.kappa
        if grown or (self.settings.every > 0 and self.age >= self.settings.every):
            self.renew()
        return told

    def renew(self) -> None:
        """The reference becomes the policy as it is."""
        self._copy(self._policy())
        self.age, self.moving, self.initial = 0, 0.0, False

    def state(self) -> dict[str, Tensor]:
        """Age and average; the weights too, unless they are still the initial ones."""
        held = {"age": torch.tensor(self.age), "moving": torch.tensor(self.moving, dtype=torch.float64)}
        if self.initial:
            return held
        return held | {WEIGHT + name: weight.detach().cpu() for name, weight in self._reference()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts them back; without weights, the reference must be the initial one, as it is when a run starts."""
        self.age, self.moving = int(state["age"]), float(state["moving"])
        kept = [(name.removeprefix(WEIGHT), weight) for name, weight in state.items() if name.startswith(WEIGHT)]
        self.initial = not kept
        if kept:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Raises KeyError where a weight is missing."""
        found = dict(weights)
        for name, weight in self._reference():
            weight.copy_(found[name])
