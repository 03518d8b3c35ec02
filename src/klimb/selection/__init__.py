"""Token selectors: each a file, and the union of them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.selection.base import Selector
from klimb.selection.every import Every

AnySelector = Annotated[Every, Field()]

__all__ = ["AnySelector", "Every", "Selector"]
