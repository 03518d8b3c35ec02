"""Bandits: each a file, and the union of them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.bandits.base import Bandit
from klimb.bandits.epsilon_greedy import EpsilonGreedy
from klimb.bandits.exp3 import Exp3
from klimb.bandits.fixed import Fixed
from klimb.bandits.linucb import LinUCB
from klimb.bandits.random import Random
from klimb.bandits.round_robin import RoundRobin
from klimb.bandits.thompson import Thompson
from klimb.bandits.ucb1 import UCB1

AnyBandit = Annotated[
    Fixed | Random | RoundRobin | LinUCB | Thompson | Exp3 | UCB1 | EpsilonGreedy,
    Field(discriminator="type"),
]

__all__ = [
    "UCB1",
    "AnyBandit",
    "Bandit",
    "EpsilonGreedy",
    "Exp3",
    "Fixed",
    "LinUCB",
    "Random",
    "RoundRobin",
    "Thompson",
]
