"""Sources of experience."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.sources.online import Online

AnySource = Annotated[Online, Field()]
