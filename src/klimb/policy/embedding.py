"""An embedding whose gradient is added in float32: in half precision a frequent token's sum stops growing."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from klimb.policy import sinking

HALF = (torch.bfloat16, torch.float16)


def swap_embeddings(model: Any) -> list[str]:
    """Gives each plain embedding in half precision the exact gradient, and says how many; others stay as they are."""
    found = [module for module in model.modules() if _fits(module)]
    for module in found:
        module.forward = partial(_forward, module)
    return [f"{len(found)} Embedding with a gradient added in float32"] if found else []


def lookup(tokens: Tensor, weight: Tensor, padding: int | None = None) -> Tensor:
    """The rows of weight [v, d] for token ids of any shape; row `padding` gets no gradient.

    The gradient of a row is added in float32 and rounded once. In bfloat16, 1,000 ones added one by one give 256.
    """
    out: Tensor = cast(Any, _Lookup).apply(tokens, weight, padding)
    return out


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.weight, ctx.padding = weight, padding
        return nnf.embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (tokens,) = ctx.saved_tensors
        used, place = torch.unique(tokens, return_inverse=True)
        # float32 for the rows that occur only: all of them may be a hundred times as many
        rows = torch.zeros(used.numel(), grad.shape[-1], dtype=torch.float32, device=grad.device)
        rows.index_add_(0, place.flatten(), grad.flatten(0, -2).float())
        if ctx.padding is not None:
            rows[used == ctx.padding] = 0.0
        if (total := sinking.of(ctx.weight)) is not None:
            total.index_add_(0, used, rows.to(total.dtype))
            return None, None, None
        out = torch.zeros(ctx.weight.shape, dtype=grad.dtype, device=grad.device)
        out[used] = rows.to(grad.dtype)
        return None, out, None


def _forward(module: nn.Embedding, tokens: Tensor) -> Tensor:
    if module.weight.device.type == "cpu":
        return lookup(tokens, module.weight, module.padding_idx)
    return nn.Embedding.forward(module, tokens)  # torch's kernels for GPUs add in float32 themselves


def _fits(module: Any) -> bool:
    """Whether a module is torch's own embedding, in half precision, and nothing but a lookup."""
    plain = type(module) is nn.Embedding and not (module.scale_grad_by_freq or module.sparse)
    return plain and module.max_norm is None and module.weight.dtype in HALF
