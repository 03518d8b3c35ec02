"""A float32 number as a bfloat16 one and the 16 bits that it lacks: exact, and no more memory than the float32 alone.

The bfloat16 half is the number rounded to nearest (halves away from zero): a model can compute with it as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = 1 << 15


def split(whole: Tensor, high: Tensor, low: Tensor) -> None:
    """Writes float32 `whole` into bfloat16 `high` and int16 `low`, all of one shape and contiguous."""
    bits = whole.view(torch.int32)
    upper = (bits + HALF) >> 16
    high.view(torch.int16).copy_(upper)
    low.copy_(bits - (upper << 16))


def join(high: Tensor, low: Tensor, out: Tensor | None = None) -> Tensor:
    """The float32 number that was split, in `out` if there is one."""
    whole = torch.empty(high.shape, dtype=torch.float32, device=high.device) if out is None else out
    bits = whole.view(torch.int32)
    bits.copy_(high.view(torch.int16))
    bits.bitwise_left_shift_(16).add_(low)
    return whole
