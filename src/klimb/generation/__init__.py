"""The generators: what answers a prompt with completions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.generation.http import Http
from klimb.generation.local import Local
from klimb.generation.replay import Replay

AnyGenerator = Annotated[Local | Http | Replay, Field(discriminator="type")]
