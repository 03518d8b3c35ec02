"""Objectives: each a file, and the union of them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.objectives.base import Objective
from klimb.objectives.cispo import CISPO
from klimb.objectives.custom import Custom
from klimb.objectives.dapo import DAPO
from klimb.objectives.dr_grpo import DrGRPO
from klimb.objectives.grpo import GRPO
from klimb.objectives.gspo import GSPO
from klimb.objectives.gspo_token import GSPOToken
from klimb.objectives.ppo import PPO
from klimb.objectives.reinforce import Reinforce
from klimb.objectives.reinforce_pp import ReinforcePP
from klimb.objectives.reinforce_pp_baseline import ReinforcePPBaseline
from klimb.objectives.rloo import RLOO
from klimb.objectives.rpg import RPG

AnyObjective = Annotated[
    Reinforce
    | RLOO
    | PPO
    | GRPO
    | DrGRPO
    | DAPO
    | GSPO
    | GSPOToken
    | CISPO
    | ReinforcePP
    | ReinforcePPBaseline
    | RPG
    | Custom,
    Field(discriminator="type"),
]

__all__ = [
    "CISPO",
    "DAPO",
    "GRPO",
    "GSPO",
    "PPO",
    "RLOO",
    "RPG",
    "AnyObjective",
    "Custom",
    "DrGRPO",
    "GSPOToken",
    "Objective",
    "Reinforce",
    "ReinforcePP",
    "ReinforcePPBaseline",
]
