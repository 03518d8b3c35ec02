"""RMS norm and gated activation that keep little for the backward pass and walk over memory few times."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as nnf

from klimb.policy.sparing import made_by


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / sqrt(mean(x^2) + eps), the mean in float32, over the last axis; keeps x and one number a row."""
    out: Tensor = cast(Any, _RMSNorm).apply(x, weight, eps)
    return made_by(lambda x, weight: _scaled(x, _inverse(x, eps)).mul_(weight), out, x, weight)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up; keeps its two inputs only."""
    out: Tensor = cast(Any, _SwiGLU).apply(gate, up)
    return made_by(lambda gate, up: nnf.silu(gate).mul_(up), out, gate, up)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = _inverse(x, eps)
        ctx.save_for_backward(x, weight, inverse)
        return _scaled(x, inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # n = x * inverse, h = grad * weight: dx = inverse * (h - n * mean(h n)), dweight = sum over rows of grad * n
        x, weight, inverse = ctx.saved_tensors
        normal = _scaled(x, inverse)
        product = grad * normal
        axes = tuple(range(x.ndim - 1))
        grad_weight = product.sum(axes, dtype=torch.float32).to(weight.dtype) if ctx.needs_input_grad[1] else None
        mean = torch.mv(product.flatten(0, -2), weight).view_as(inverse).float().div_(x.shape[-1])
        step = (grad * weight).sub_(normal.mul_(mean.to(x.dtype)))
        return _scaled(step, inverse), grad_weight, None


def _inverse(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) of each row, float32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return torch.rsqrt(norm.square_().div_(x.shape[-1]).add_(eps))


def _scaled(x: Tensor, factor: Tensor) -> Tensor:
    """x times a float32 factor a row, rounded once to the precision of x."""
    return torch.mul(x, factor, out=torch.empty_like(x))


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return nnf.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), nnf.silu(gate).mul_(grad)
