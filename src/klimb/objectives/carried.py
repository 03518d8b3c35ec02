"""What an objective may want carried from step to step: settings of it here, its state in `klimb.training`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from klimb.config import Settings
from klimb.errors import KlimbError

COEFFICIENT = "kl_coefficient"
"""In `Batch.carried`: the KL's coefficient in this step, where it is steered."""
BASELINE = "baseline"
"""In `Batch.carried`: the mean reward of earlier steps."""

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class Control(Settings):
    """Steers the KL's coefficient towards a KL, by a proportional controller (Ziegler et al., 1909.08593, Sec. 2.2).

    After each step: beta = beta (1 + gain clip((KL - target) / target, -limit, limit)). Departure: the KL is
    `policy/kl_ref`, in nats a token of those trained; the paper's is of whole answers.
    """

    target: Annotated[float, Field(ge=0.0)] = 0.0
    """The KL to the reference that is aimed at, in nats a token; 0 = the coefficient stays."""
    gain: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """How much of the relative error the coefficient changes by."""
    limit: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """The largest relative error that counts."""
    span: Annotated[float, Field(gt=1.0)] = 1000.0
    """The coefficient stays between beta / span and beta * span, whatever the KL does."""

    def faults(self) -> list[KlimbError]:
        """A factor of zero would end the KL for ever."""
        if self.gain * self.limit < 1:
            return []
        found = "a KL of 0 then multiplies the coefficient by 0, and it stays 0"
        return [KlimbError(f"control.gain={self.gain:g} control.limit={self.limit:g}", found, "control.limit=0.2")]


class Refresh(Settings):
    """When the reference becomes the policy as it is (RPG, 2505.17508, 3.4; the paper gives neither K nor kappa)."""

    every: Annotated[int, Field(ge=0)] = 0
    """After each so many steps (K); 0 = never for this reason."""
    kappa: Annotated[float, Field(ge=0.0)] = 0.0
    """When the moving average of `policy/kl_ref` (nats a token) passes this; 0 = never for this reason."""
    decay: Decay = 0.9
    """How much of that average each step keeps."""

    @property
    def active(self) -> bool:
        """Whether it ever happens."""
        return self.every > 0 or self.kappa > 0


@dataclass(frozen=True, slots=True)
class Carried:
    """What is carried: a coefficient that begins at `beta` and is steered, a refreshed reference, a moving mean."""

    beta: float = 0.0
    control: Control | None = None
    refresh: Refresh | None = None
    decay: float | None = None

    @classmethod
    def of(cls, beta: float, control: Control, refresh: Refresh, decay: float | None = None) -> Carried:
        """Only what is in use."""
        return cls(beta, control if control.target else None, refresh if refresh.active else None, decay)
