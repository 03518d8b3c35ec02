"""Objectives: each a file, and the union of them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.objectives.base import Objective
from klimb.objectives.bradley_terry import BradleyTerry
from klimb.objectives.cdpo import CDPO
from klimb.objectives.cispo import CISPO
from klimb.objectives.custom import Custom
from klimb.objectives.dapo import DAPO
from klimb.objectives.dpo import DPO
from klimb.objectives.dpo_norm import DPONorm
from klimb.objectives.dr_grpo import DrGRPO
from klimb.objectives.grpo import GRPO
from klimb.objectives.gspo import GSPO
from klimb.objectives.gspo_token import GSPOToken
from klimb.objectives.hinge import Hinge
from klimb.objectives.hypo import HyPO
from klimb.objectives.ipo import IPO
from klimb.objectives.kto import KTO
from klimb.objectives.orpo import ORPO
from klimb.objectives.ppo import PPO
from klimb.objectives.reinforce import Reinforce
from klimb.objectives.reinforce_pp import ReinforcePP
from klimb.objectives.reinforce_pp_baseline import ReinforcePPBaseline
from klimb.objectives.rloo import RLOO
from klimb.objectives.robust_dpo import RobustDPO
from klimb.objectives.rpg import RPG
from klimb.objectives.sft import SFT
from klimb.objectives.simpo import SimPO
from klimb.objectives.topr import TOPR

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
    | TOPR
    | Custom,
    Field(discriminator="type"),
]

AnyPreference = Annotated[
    SFT | DPO | CDPO | RobustDPO | DPONorm | IPO | Hinge | SimPO | ORPO | KTO | HyPO | BradleyTerry,
    Field(discriminator="type"),
]
"""Those that learn from given answers; what they climb is no reward, so they are proved by claims of their own."""

__all__ = [
    "CDPO",
    "CISPO",
    "DAPO",
    "DPO",
    "GRPO",
    "GSPO",
    "IPO",
    "KTO",
    "ORPO",
    "PPO",
    "RLOO",
    "RPG",
    "SFT",
    "TOPR",
    "AnyObjective",
    "AnyPreference",
    "BradleyTerry",
    "Custom",
    "DPONorm",
    "DrGRPO",
    "GSPOToken",
    "Hinge",
    "HyPO",
    "Objective",
    "Reinforce",
    "ReinforcePP",
    "ReinforcePPBaseline",
    "RobustDPO",
    "SimPO",
]
