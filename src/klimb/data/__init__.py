"""Prompts with checkable answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.data.bbq import Bbq
from klimb.data.chain_sum import ChainSum
from klimb.data.difference import Difference
from klimb.data.digit_sum import DigitSum
from klimb.data.echo_digit import EchoDigit
from klimb.data.echo_pairs import EchoPairs
from klimb.data.echo_worked import EchoWorked
from klimb.data.gsm8k import Gsm8k
from klimb.data.gym import Gym
from klimb.data.hub import Hub
from klimb.data.hub_preferences import HubPreferences
from klimb.data.jsonl import Jsonl
from klimb.data.max_of_three import MaxOfThree
from klimb.data.parquet import Parquet
from klimb.data.preferences import Preferences
from klimb.data.svamp import Svamp
from klimb.data.xstest import XsTest

AnyData = Annotated[
    Bbq
    | ChainSum
    | Difference
    | DigitSum
    | EchoDigit
    | EchoPairs
    | EchoWorked
    | Gsm8k
    | Gym
    | Hub
    | HubPreferences
    | Jsonl
    | MaxOfThree
    | Parquet
    | Preferences
    | Svamp
    | XsTest,
    Field(discriminator="type"),
]
