"""Where a weight's gradient may be added at once: no gradient of the weight's whole size is made then.

The output layer and the embedding are the largest weights of a small model, often one and the same: each of their two
gradients, and the sum that autograd makes of them, would be as large as the weight.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Sink = Callable[[], Tensor]
"""Gives the sum that a gradient is to be added to, of the weight's shape."""
NAME = "_klimb_sink"


def put(weight: Tensor, sink: Sink | None) -> None:
    """From now on the weight's gradient is added there; None = autograd has it again."""
    if sink is not None:
        setattr(weight, NAME, sink)
    elif hasattr(weight, NAME):
        delattr(weight, NAME)


def of(weight: Tensor) -> Tensor | None:
    """The sum to add a gradient of this weight to, and None to give autograd; None where autograd is to have it."""
    sink: Sink | None = getattr(weight, NAME, None)
    return None if sink is None else sink()
