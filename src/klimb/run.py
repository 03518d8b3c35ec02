"""A run from its settings to its report: `train`, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.config import dump
from klimb.evaluation.base import Evaluation
from klimb.recipe import Recipe
from klimb.rundir import RunDir
from klimb.start import Beginning, begin, claim
from klimb.session import Session, opened
from klimb.training.stopwatch import Stopwatch

if TYPE_CHECKING:
    from klimb.policy.policy import Policy
    from klimb.training.loop import Crew


@dataclass(frozen=True, slots=True)
class RunResult:
    """Where a run stands when `train` returns."""

    path: Path
    step: int
    before: dict[str, float]
    after: dict[str, float]
    report: Path
    model: Path
