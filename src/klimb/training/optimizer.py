"""AdamW on float32 master weights, for parameters that compute in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from klimb.training.base import AdamW
from klimb.training.gradients import Gradients
from klimb.training.halves import join, split

CHUNK = 1 << 20
"""Weights are updated so many at a time: what is worked with stays in the processor's cache."""


class MasterAdamW:
    """Holds moments by parameter name, and for a bfloat16 parameter the bits that make it a float32 master weight."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], settings: AdamW) -> None:
        self.settings = settings
        self.parameters = {name: p for name, p in named if p.requires_grad}
        self.first = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in self.parameters.items()}
        self.second = {name: torch.zeros_like(moment) for name, moment in self.first.items()}
        self.count = 0
        self._begun: dict[str, int] = {}
        """At which count a parameter came in, where that was not the first: Adam corrects its moments from there."""
        self._low = {n: torch.zeros_like(p, dtype=torch.int16) for n, p in self.parameters.items() if _halved(p)}
        self._gradients = Gradients(self.parameters.items())

    @property
    def master(self) -> dict[str, Tensor]:
        """The float32 weights by name; those of bfloat16 parameters are made when they are asked for."""
        return {
            name: join(p.detach(), self._low[name]) if name in self._low else p.detach()
            for name, p in self.parameters.items()
        }

    def begin(self, parts: int) -> None:
        """Clears the gradients before a step that will be made of `parts` backward passes."""
        self._gradients.begin(parts)

    def clear(self) -> None:
        """Forgets every gradient."""
        self._gradients.clear()

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of each parameter that has one, in its dtype."""
        return self._gradients.found()

    def gradient(self, name: str) -> Tensor:
        """The gradient of a parameter, to add to in place; zeros where it has none yet."""
        return self._gradients.sum(name)

    def bad_gradients(self) -> list[str]:
        """The names of the parameters whose gradient is not finite."""
        return self._gradients.bad()

    def norm(self) -> float:
        """The norm of the whole gradient."""
        return self._gradients.norm()

    def step(self, lr: float, norm: float) -> None:
        """One update with the gradients that are there, scaled to a norm of at most `clip`; then forgets them."""
        scale = min(1.0, self.settings.clip / (norm + 1e-6))
        for name, gradient in self.gradients().items():
            parts = [gradient, self.parameters[name].detach(), self.first[name], self.second[name]]
            low = self._low.get(name)
            flat = [tensor.reshape(-1).split(CHUNK) for tensor in (*parts, *([] if low is None else [low]))]
            for chunk in zip(*flat, strict=True):
                self._update(lr, scale, self.count - self._begun.get(name, 0), *chunk)
        self.count += 1
        self.clear()

    def _update(
        self,
        lr: float,
        scale: float,
        count: int,
        gradient: Tensor,
        weight: Tensor,
        first: Tensor,
        second: Tensor,
        low: Tensor | None = None,
    ) -> None:
        """AdamW on some weights, in float32, `count` updates after they came in."""
        master = weight if low is None else join(weight, low)
        adamw(
            [master],
            [gradient.float().mul_(scale)],
            [first],
            [second],
            [],
            [torch.tensor(float(count), device=master.device)],
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
        if low is not None:
            split(master, weight, low)

    def state(self) -> dict[str, Tensor]:
        """The moments, by name, for a safetensors file; and when a parameter came in, where that was later."""
        begun = {f"begun.{n}": torch.tensor(count) for n, count in self._begun.items()}
        firsts = {f"first.{n}": t for n, t in self.first.items()}
        return firsts | {f"second.{n}": t for n, t in self.second.items()} | begun

    def restore(
        self, master: Mapping[str, Tensor], moments: Mapping[str, Tensor], count: int, anew: Collection[str] = ()
    ) -> None:
        """Puts a saved state back, in place; what is `anew` begins with moments of zero, as of this count."""
        self.clear()
        self.count = count
        self._begun = {n: int(moments[f"begun.{n}"]) for n in self.parameters if f"begun.{n}" in moments}
        self._begun |= dict.fromkeys(anew, count)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if name in self._low:
                    split(master[name].to(parameter.device, torch.float32), parameter.detach(), self._low[name])
                else:
                    parameter.copy_(master[name])
                for kind, held in (("first", self.first), ("second", self.second)):
                    held[name].zero_() if name in anew else held[name].copy_(moments[f"{kind}.{name}"])

    def close(self) -> None:
        """Frees gradients and takes the hooks off the parameters."""
        self._gradients.close()


def _halved(parameter: Tensor) -> bool:
    if parameter.dtype not in (torch.float32, torch.bfloat16):
        raise TypeError(f"AdamW computes in float32 or bfloat16, not {parameter.dtype}")
    return parameter.dtype == torch.bfloat16


def _fusable(tensor: Tensor) -> bool:
    return tensor.device.type in ("cpu", "cuda")
