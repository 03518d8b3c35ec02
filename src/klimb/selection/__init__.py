"""Token selectors: each a file, and the union of them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.selection.above import Above
from klimb.selection.base import Selector
from klimb.selection.bottom import Bottom
from klimb.selection.custom import Custom
from klimb.selection.every import Every
from klimb.selection.random import Random
from klimb.selection.top import Top

AnySelector = Annotated[Every | Top | Bottom | Random | Above | Custom, Field(discriminator="type")]

__all__ = ["Above", "AnySelector", "Bottom", "Custom", "Every", "Random", "Selector", "Top"]
