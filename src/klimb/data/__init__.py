"""Prompts with checkable answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.data.chain_sum import ChainSum
from klimb.data.difference import Difference
from klimb.data.digit_sum import DigitSum
from klimb.data.echo_digit import EchoDigit
from klimb.data.max_of_three import MaxOfThree

AnyData = Annotated[
    ChainSum | Difference | DigitSum | EchoDigit | MaxOfThree,
    Field(discriminator="type"),
]
