"""What autograd keeps of a forward pass, made smaller: values that are cheap to make again are, bit by bit the same.

A norm's output or a gated activation is kept by the linear layers that read it, though it follows from what is kept
anyway. While `sparing()` is on, whoever makes such a value says how (`cheap`), and the recipe is kept in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

Make = Callable[[], Tensor]


class _Cheap:
    """The values that can be made again, while they live."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ReferenceType[Tensor], Make]] = {}

    def add(self, value: Tensor, make: Make) -> None:
        """`make` gives `value` again."""
        self._known[value.data_ptr()] = ref(value), make

    def pack(self, saved: Tensor) -> Any:
        """What is kept in place of a saved tensor: itself, or how it is made."""
        weak, make = self._known.get(saved.data_ptr(), (None, None))
        value = weak() if weak is not None else None
        if value is None or make is None or not _same(saved, value):
            return saved
        return make, saved.shape


_CHEAP: ContextVar[_Cheap | None] = ContextVar("cheap", default=None)


@contextmanager
def sparing() -> Iterator[None]:
    """Keeps the recipes of cheap values in place of the values, for the backward pass of what runs inside."""
    cheap = _Cheap()
    token = _CHEAP.set(cheap)
    try:
        with torch.autograd.graph.saved_tensors_hooks(cheap.pack, _unpack):
            yield
    finally:
        _CHEAP.reset(token)


def made_by(make: Make, value: Tensor) -> Tensor:
    """`value`, of which `make` makes a copy from tensors that are kept anyway."""
    cheap = _CHEAP.get()
    if cheap is not None:
        cheap.add(value, make)
    return value


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    make, shape = kept
    with torch.no_grad():
        made: Tensor = make().view(shape)
    return made


def _same(saved: Tensor, value: Tensor) -> bool:
    """Whether a saved tensor is all of the value, in its order (a linear layer keeps it with two axes for three)."""
    alike = saved.numel() == value.numel() and saved.dtype == value.dtype and saved.shape[-1:] == value.shape[-1:]
    return alike and saved.is_contiguous() and value.is_contiguous()
