"""The gradients of one optimizer step, added up in float32 over several backward passes.

Sums live in one block for each step: gradients that are made one by one between activations leave holes in the heap.
The output layer and the embedding add to theirs without a gradient of their own in between (policy/sinking.py).
With one part a step nothing is added, so nothing is lost in bfloat16, and a bfloat16 parameter's is half as large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from klimb.policy import sinking


class Gradients:
    """The gradients of the named parameters that learn."""

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self.parameters = {name: p for name, p in named if p.requires_grad}
        self._sums: dict[str, Tensor] = {}
        self._filled: set[str] = set()
        self._hooks = [p.register_post_accumulate_grad_hook(self._hook(name)) for name, p in self.parameters.items()]

    def begin(self, parts: int) -> None:
        """Clears them before a step that will be made of `parts` backward passes."""
        self.clear()
        self._sums = _blocks(self.parameters, torch.float32 if parts > 1 else None)
        for name, parameter in self.parameters.items():
            if self._sums[name].dtype == torch.float32:
                sinking.put(parameter, partial(self.sum, name))

    def clear(self) -> None:
        """Forgets every gradient, and frees the block: the sampler needs the memory next."""
        self._sums, self._filled = {}, set()
        for parameter in self.parameters.values():
            parameter.grad = None
            sinking.put(parameter, None)

    def found(self) -> dict[str, Tensor]:
        """The gradient of each parameter that has one, in its dtype; in one order, for sums of norms round."""
        found = {n: self._sums[n] if n in self._filled else p.grad for n, p in self.parameters.items()}
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    def sum(self, name: str) -> Tensor:
        """The gradient of a parameter, to add to in place; zeros where it has none yet. Only in a step that began."""
        if name not in self._filled:
            self._sums[name].zero_()
            self._filled.add(name)
        return self._sums[name]

    def bad(self) -> list[str]:
        """The names of the parameters whose gradient is not finite."""
        return [
            name
            for name, gradient in self.found().items()
            if not bool(torch.isfinite(gradient.sum())) and not bool(torch.isfinite(gradient).all())
        ]

    def norm(self) -> float:
        """The norm of the whole gradient."""
        norms = [torch.linalg.vector_norm(g, dtype=torch.float32) for g in self.found().values()]
        return float(torch.linalg.vector_norm(torch.stack(norms).double())) if norms else 0.0

    def close(self) -> None:
        """Forgets every gradient and takes the hooks off the parameters."""
        self.clear()
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        def add(parameter: Tensor) -> None:
            """Moves a gradient into its sum as soon as it is complete."""
            if name not in self._sums or parameter.grad is None:
                return
            if name in self._filled:
                self._sums[name] += parameter.grad
            else:
                self._sums[name].copy_(parameter.grad)
            self._filled.add(name)
            parameter.grad = None

        return add


def _blocks(parameters: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Room for a gradient of each parameter, in `dtype` or its own: one piece of memory for each device and dtype."""
    made: dict[str, Tensor] = {}
    kinds = {name: (parameter.device, dtype or parameter.dtype) for name, parameter in parameters.items()}
    for kind in dict.fromkeys(kinds.values()):
        here = {name: p for name, p in parameters.items() if kinds[name] == kind}
        sizes = [p.numel() for p in here.values()]
        parts = torch.empty(sum(sizes), dtype=kind[1], device=kind[0]).split(sizes)
        made |= {name: part.view(p.shape) for (name, p), part in zip(here.items(), parts, strict=True)}
    return made
