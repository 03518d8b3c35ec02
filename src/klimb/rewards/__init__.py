"""Reward sources."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.rewards.exact import Exact
from klimb.rewards.format import Format
from klimb.rewards.function import Function
from klimb.rewards.gym import Gym
from klimb.rewards.length import Length
from klimb.rewards.numeric import Numeric

AnyReward = Annotated[Exact | Format | Function | Gym | Length | Numeric, Field(discriminator="type")]
