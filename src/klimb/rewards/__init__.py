"""Reward sources."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.rewards.code import Code
from klimb.rewards.ended import Ended
from klimb.rewards.exact import Exact
from klimb.rewards.format import Format
from klimb.rewards.function import Function
from klimb.rewards.grammar import Grammar
from klimb.rewards.gym import Gym
from klimb.rewards.instructions import Instructions
from klimb.rewards.json_schema import JsonSchema
from klimb.rewards.judge import Judge
from klimb.rewards.language import Language
from klimb.rewards.length import Length
from klimb.rewards.math_verify import MathVerify
from klimb.rewards.numeric import Numeric
from klimb.rewards.profanity import Profanity
from klimb.rewards.refusal import Refusal
from klimb.rewards.regex import Regex
from klimb.rewards.repetition import Repetition
from klimb.rewards.reward_model import RewardModel
from klimb.rewards.sentiment import Sentiment
from klimb.rewards.spelling import Spelling
from klimb.rewards.word_model import WordModelReward

Rules = Ended | Exact | Format | Instructions | Length | Numeric | Regex | Repetition
Models = Judge | Refusal | RewardModel | WordModelReward
Packages = Grammar | Gym | JsonSchema | Language | MathVerify | Profanity | Sentiment | Spelling
AnyReward = Annotated[Rules | Packages | Models | Code | Function, Field(discriminator="type")]
