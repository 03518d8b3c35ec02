"""Puts the leaner norm and gated activation into a model's modules, where a check of values and gradients agrees."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from klimb.policy.fused import rms_norm, swiglu


def swap(model: Any) -> list[str]:
    """Replaces what can be replaced and says how many modules that were; a class that disagrees stays as it is."""
    counts: dict[str, int] = {}
    known: dict[tuple[type, torch.dtype], bool] = {}
    for module in model.modules():
        lean = _lean(module)
        weight = next(module.parameters(), None) if lean else None
        if lean is None or weight is None:
            continue
        kind = (type(module), weight.dtype)
        if kind not in known:
            known[kind] = _agrees(module, lean)
        if known[kind]:
            module.forward = partial(lean, module)
            counts[type(module).__name__] = counts.get(type(module).__name__, 0) + 1
    return [f"{count} {name} in a leaner form" for name, count in counts.items()]


def _lean(module: nn.Module) -> Callable[[Any, Tensor], Tensor] | None:
    """The replacement that might fit, by the shape of the module."""
    if type(module).__name__.endswith("RMSNorm") and [name for name, _ in module.named_parameters()] == ["weight"]:
        return _norm if _eps(module) is not None else None
    if [name for name, _ in module.named_children()] == ["gate_proj", "up_proj", "down_proj", "act_fn"]:
        return _mlp if type(module.act_fn).__name__ in ("SiLUActivation", "SiLU") else None
    return None


def _eps(module: Any) -> float | None:
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return float(found) if found is not None else None


def _norm(module: Any, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight, _eps(module) or 0.0)


def _mlp(module: Any, x: Tensor) -> Tensor:
    out: Tensor = module.down_proj(swiglu(module.gate_proj(x), module.up_proj(x)))
    return out


def _agrees(module: Any, lean: Callable[[Any, Tensor], Tensor]) -> bool:
    """Whether the replacement gives the module's own values and gradients on random numbers, with random weights."""
    twin = copy.deepcopy(module)
    first: Tensor = next(twin.parameters())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    x = torch.randn(1, 5, first.shape[-1], generator=generator).to(first).requires_grad_()
    try:
        own, ours = (_values(twin, x, forward) for forward in (twin.forward, partial(lean, twin)))
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return False
    allowed = 1e-5 if first.dtype == torch.float32 else 0.02
    return all(float((a - b).norm()) <= allowed * float(a.norm()) + 1e-12 for a, b in zip(own, ours, strict=True))


def _values(module: Any, x: Tensor, forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
    with torch.enable_grad():
        out = forward(x)
        leaves = [x, *module.parameters()]
        return [part.float() for part in (out.detach(), *torch.autograd.grad(out.float().square().sum(), leaves))]
