"""Other values in the place of a model's own, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def holding(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the parameters are these values, by name and uncopied; afterwards their own again, to the bit."""
    now = {name: weight.data for name, weight in parameters.items()}
    try:
        for name, weight in parameters.items():
            weight.data = values[name]
        yield
    finally:
        for name, weight in parameters.items():
            weight.data = now[name]
