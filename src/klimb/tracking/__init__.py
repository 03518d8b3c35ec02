"""What a run shows of itself; `AnyTracker` holds the optional trackers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.tracking.mlflow import MLflow
from klimb.tracking.tensorboard import TensorBoard
from klimb.tracking.trackio import Trackio
from klimb.tracking.wandb import WandB

AnyTracker = Annotated[TensorBoard | WandB | MLflow | Trackio, Field(discriminator="type")]

__all__ = ["AnyTracker", "MLflow", "TensorBoard", "Trackio", "WandB"]
