"""The generators: what answers a prompt with completions."""

from __future__ import annotations

from klimb.generation.local import Local

AnyGenerator = Local
