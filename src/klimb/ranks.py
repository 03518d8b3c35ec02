"""What the processes of one run tell each other: values of every rank, in the order of the ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def everyone(values: Tensor) -> tuple[Tensor, slice]:
    """The values (n) of all ranks end to end, and where this rank's own stand; without ranks, the values themselves.

    Every rank must call this, also with nothing to give: ranks first tell how many values they have, then send as many
    as the longest has, so that none waits for another.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values, slice(0, values.numel())
    size = torch.tensor([values.numel()], dtype=torch.int64, device=values.device)
    told = [torch.empty_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(told, size)
    sizes = [int(one) for one in told]
    padded = values.new_zeros(max(sizes))
    padded[: values.numel()] = values
    sent = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(sent, padded)
    start = sum(sizes[: dist.get_rank()])
    return torch.cat([part[:n] for part, n in zip(sent, sizes, strict=True)]), slice(start, start + values.numel())
