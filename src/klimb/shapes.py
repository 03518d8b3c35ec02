"""The shapes. Axes: t completion tokens, r rows (completions), g groups (prompts), v vocabulary entries."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

PerToken = Float[Tensor, " t"]
PerRow = Float[Tensor, " r"]
PerGroup = Float[Tensor, " g"]
TokenIds = Int[Tensor, " t"]
TokenRows = Int[Tensor, " t"]
RowGroups = Int[Tensor, " r"]
TokenMask = Bool[Tensor, " t"]
RowMask = Bool[Tensor, " r"]
Scalar = Float[Tensor, ""]
Logits = Float[Tensor, "t v"]
