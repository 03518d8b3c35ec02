"""Objectives: each a file, and the union of them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.objectives.base import Objective
from klimb.objectives.custom import Custom
from klimb.objectives.grpo import GRPO
from klimb.objectives.reinforce import Reinforce
from klimb.objectives.rpg import RPG

AnyObjective = Annotated[Reinforce | GRPO | RPG | Custom, Field(discriminator="type")]

__all__ = ["GRPO", "RPG", "AnyObjective", "Custom", "Objective", "Reinforce"]
