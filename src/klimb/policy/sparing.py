"""What autograd keeps of a forward pass, made smaller: values that are cheap to make again are, bit by bit the same.

A norm's output or a gated activation is kept by the linear layers that read it, though it follows from what is kept
anyway. While `sparing()` is on, whoever makes such a value says how (`made_by`), and the recipe is kept in its place.
As autograd does without it, a backward pass refuses what was changed in place since it was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor


class _Kept(NamedTuple):
    """A tensor that is kept, and how often it had been changed in place by then."""

    tensor: Tensor
    version: int

    @classmethod
    def of(cls, tensor: Tensor) -> _Kept:
        return cls(tensor, tensor._version)

    def get(self) -> Tensor:
        """The tensor. Raises RuntimeError where it was changed in place since."""
        if self.tensor._version == self.version:
            return self.tensor
        raise RuntimeError(
            f"a tensor of shape {tuple(self.tensor.shape)} needed for the backward pass was changed in place: it is at "
            f"version {self.tensor._version}, and version {self.version} was kept"
        )


class _Recipe(NamedTuple):
    """How a value is made again, and of what."""

    make: Callable[..., Tensor]
    parts: tuple[_Kept, ...]

    def again(self, shape: torch.Size) -> Tensor:
        """The value. Raises RuntimeError where a part was changed in place since."""
        with torch.no_grad():
            return self.make(*(part.get() for part in self.parts)).view(shape)


class _Cheap:
    """The values that can be made again, while they live: a recipe holds its parts, and goes with a value not kept.

    Where nothing is recorded, or a layer runs again in the backward pass, that is all of them.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[ReferenceType[Tensor], int, _Recipe]] = {}

    def add(self, value: Tensor, recipe: _Recipe) -> None:
        """The recipe gives `value` as it is now again."""
        place = value.data_ptr()

        def forget(gone: ReferenceType[Tensor]) -> None:
            if (known := self._known.get(place)) is not None and known[0] is gone:
                del self._known[place]

        self._known[place] = ref(value, forget), value._version, recipe

    def clear(self) -> None:
        """Forgets every recipe that was not taken."""
        self._known.clear()

    def pack(self, saved: Tensor) -> Any:
        """What is kept in place of a saved tensor: itself, or how it is made."""
        weak, version, recipe = self._known.get(saved.data_ptr(), (None, 0, None))
        value = weak() if weak is not None else None
        if value is None or recipe is None or value._version != version or not _same(saved, value):
            return _Kept.of(saved)
        return recipe, saved.shape


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
        cheap.clear()


def made_by(make: Callable[..., Tensor], value: Tensor, *parts: Tensor) -> Tensor:
    """`value`, of which `make(*parts)` makes a copy, the parts being kept anyway."""
    cheap = _CHEAP.get()
    if cheap is not None:
        cheap.add(value, _Recipe(make, tuple(_Kept.of(part.detach()) for part in parts)))
    return value


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, _Kept):
        return kept.get()
    recipe, shape = kept
    made: Tensor = recipe.again(shape)
    return made


def _same(saved: Tensor, value: Tensor) -> bool:
    """Whether a saved tensor is all of the value, in its order (a linear layer keeps it with two axes for three)."""
    alike = saved.numel() == value.numel() and saved.dtype == value.dtype and saved.shape[-1:] == value.shape[-1:]
    return alike and saved.is_contiguous() and value.is_contiguous()
