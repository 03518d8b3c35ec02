"""AdamW on float32 master weights, for parameters that compute in float32 or bfloat16.

Gradients add up in float32, in buffers that are made once: fresh ones at every step leave holes in the heap that grow.
With one part a step, bfloat16 gradients are used as they are: nothing is added, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from klimb.training.base import AdamW


class MasterAdamW:
    """Holds master weights and moments by parameter name; the model's own parameters are their rounded copies."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], settings: AdamW) -> None:
        self.settings = settings
        self.parameters = {name: p for name, p in named if p.requires_grad}
        self.master = {
            n: p.detach() if p.dtype == torch.float32 else p.detach().float() for n, p in self.parameters.items()
        }
        self.first = {name: torch.zeros_like(m) for name, m in self.master.items()}
        self.second = {name: torch.zeros_like(m) for name, m in self.master.items()}
        self.count = 0
        self._sums: dict[str, Tensor] = {}
        self._filled: set[str] = set()
        self._scratch = torch.empty(0)
        self._adding = False
        self._hooks = [p.register_post_accumulate_grad_hook(self._hook(name)) for name, p in self.parameters.items()]

    def begin(self, parts: int) -> None:
        """Clears the gradients before a step that will be made of `parts` backward passes."""
        self.clear()
        self._adding = parts > 1

    def clear(self) -> None:
        """Forgets every gradient."""
        self._filled = set()
        for parameter in self.parameters.values():
            parameter.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of each parameter that has one, in its dtype."""
        own = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        return own | {name: self._sums[name] for name in self._filled}

    def bad_gradients(self) -> list[str]:
        """The names of the parameters whose gradient is not finite."""
        return [
            name
            for name, gradient in self.gradients().items()
            if not bool(torch.isfinite(gradient.sum())) and not bool(torch.isfinite(gradient).all())
        ]

    def norm(self) -> float:
        """The norm of the whole gradient."""
        norms = [torch.linalg.vector_norm(g, dtype=torch.float32) for g in self.gradients().values()]
        return float(torch.linalg.vector_norm(torch.stack(norms).double())) if norms else 0.0

    def step(self, lr: float, norm: float) -> None:
        """One update with the gradients that are there, scaled to a norm of at most `clip`; then forgets them."""
        scale = min(1.0, self.settings.clip / (norm + 1e-6))
        self.count += 1
        for name, gradient in self.gradients().items():
            master = self.master[name]
            adamw(
                [master],
                [self._single(gradient).mul_(scale)],
                [self.first[name]],
                [self.second[name]],
                [],
                [torch.tensor(float(self.count - 1), device=master.device)],
                foreach=False,
                fused=_fusable(master),
                amsgrad=False,
                lr=lr,
                beta1=self.settings.betas[0],
                beta2=self.settings.betas[1],
                weight_decay=self.settings.weight_decay,
                eps=self.settings.eps,
                maximize=False,
            )
            self.publish(name)
        self.clear()

    def publish(self, name: str) -> None:
        """Rounds a master weight into the parameter that computes."""
        if self.parameters[name].dtype != torch.float32:
            with torch.no_grad():
                self.parameters[name].copy_(self.master[name])

    def state(self) -> dict[str, Tensor]:
        """The moments, by name, for a safetensors file."""
        return {f"first.{n}": t for n, t in self.first.items()} | {f"second.{n}": t for n, t in self.second.items()}

    def restore(self, master: Mapping[str, Tensor], moments: Mapping[str, Tensor], count: int) -> None:
        """Puts a saved state back, in place."""
        self.clear()
        self.count = count
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.master[name].copy_(master[name])
                self.first[name].copy_(moments[f"first.{name}"])
                self.second[name].copy_(moments[f"second.{name}"])
                if parameter.dtype != torch.float32:
                    parameter.copy_(self.master[name])

    def close(self) -> None:
        """Frees gradients and takes the hooks off the parameters."""
        self.clear()
        for hook in self._hooks:
            hook.remove()

    def _single(self, gradient: Tensor) -> Tensor:
        """A gradient in float32: itself, or its copy in a buffer that the next one overwrites."""
        if gradient.dtype == torch.float32:
            return gradient
        if self._scratch.numel() == 0:
            largest = max(master.numel() for master in self.master.values())
            self._scratch = torch.empty(largest, dtype=torch.float32, device=gradient.device)
        return self._scratch[: gradient.numel()].view(gradient.shape).copy_(gradient)

    def _hook(self, name: str):  # type: ignore[no-untyped-def]
        def add(parameter: Tensor) -> None:
            """Moves a bfloat16 gradient into its float32 sum as soon as it is complete."""
            if not self._adding or parameter.dtype == torch.float32 or parameter.grad is None:
                return
            if name in self._filled:
                self._sums[name] += parameter.grad
            elif name in self._sums:
                self._sums[name].copy_(parameter.grad)
            else:
                self._sums[name] = parameter.grad.float()
            self._filled.add(name)
            parameter.grad = None

        return add


def _fusable(tensor: Tensor) -> bool:
    return tensor.device.type in ("cpu", "cuda")
