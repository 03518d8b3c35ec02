"""Activation checkpointing: a layer runs again in the backward pass, so that only its input is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

_COUNT: ContextVar[int] = ContextVar("count")
"""How many tokens a pass counts as."""


def recompute_layers(model: Any) -> str:
    """Makes each layer recompute itself in the backward pass."""
    count = _wrapped(model, 0)
    return f"activation checkpointing in {count} layers" if count else "no layer can be checkpointed"


def recompute_beyond(model: Any, tokens: int) -> None:
    """Makes a pass of more than `tokens` keep about the activations of one of so many: its first layers run again.

    One row, or one group that cannot be cut, may be longer than what a pass is meant to hold. The gradient is the same
    to the bit. Nothing changes where every layer recomputes itself already, nor where a pass counts as no more.
    """
    _wrapped(model, tokens)


@contextmanager
def counted_as(tokens: int) -> Iterator[None]:
    """Inside, a pass counts as one of so many tokens, the size that its batch was cut by: padding makes no more."""
    token = _COUNT.set(tokens)
    try:
        yield
    finally:
        _COUNT.reset(token)


def _wrapped(model: Any, most: int) -> int:
    """How many layers there are, each of which now recomputes itself where a pass has more than `most` tokens."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for place, layer in enumerate(layers):
        if getattr(layer.forward, "func", None) is not _run:
            layer.forward = partial(_run, layer.forward, place / len(layers), most)
    return len(layers)


def _run(forward: Any, place: float, most: int, *args: Any, **kwargs: Any) -> Any:
    """`place`: the share of the layers that come before; so large a part of a pass as is too much runs again."""
    hidden = args[0] if args else kwargs["hidden_states"]
    tokens = hidden.shape[:-1].numel()
    if not torch.is_grad_enabled() or _COUNT.get(tokens) <= most or place * tokens >= tokens - most:
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
