"""What says the values: a head on the policy's own hidden states, or a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from klimb.config import Settings


class ValueHead(Settings):
    """A linear head on the policy's last hidden states; zero at first, and nearly free."""

    type: Literal["head"] = "head"


class ValueModel(Settings):
    """A second model with a head of one value, as in InstructGPT: its loss moves nothing of the policy.

    Its optimizer is that of the policy's settings, with moments, gradient norm and clip of its own. It takes the memory
    and time of one more model that learns, all of it, also where the policy has an adapter.
    """

    type: Literal["model"] = "model"
    path: Path | None = None
    """What it begins as: a reward model's folder, whose head it keeps, or another model with the policy's tokenizer;
    unset = `model.name`, with a head of zeros."""
    lr: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Its learning rate after the warm-up; unset = `optimizer.lr`. The value loss is times `value_weight` besides."""


AnyCritic = Annotated[ValueHead | ValueModel, Field(discriminator="type")]
