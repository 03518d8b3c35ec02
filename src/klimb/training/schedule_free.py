"""Schedule-Free AdamW (The Road Less Scheduled, 2405.15682) by the `schedulefree` package, on float32 masters.

Three points, of which the package keeps two: z, which AdamW moves; x, the average of the z's; and y = (1 - beta1) z +
beta1 x, where gradients are taken. The parameters hold y. So y samples, y gives old log-probs and y learns: the policy
that sampled is the policy that is scored. x is evaluated and saved: it stands in a checkpoint's `model/`.

The package goes between y and x in place, which rounds each time. Here y is kept aside and put back to the bit, so a
run does not depend on how often it is evaluated or saved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import schedulefree
import torch
from torch import Tensor

from klimb.training.base import ScheduleFree
from klimb.training.gradients import Gradients
from klimb.training.updater import not_averaged

COUNTERS = "counters"
"""The name of (updates, sum of the average's weights, largest learning rate) in a saved state, in float64."""


class MasterScheduleFree:
    """Holds y in float32 by parameter name; a bfloat16 parameter is its rounded copy, a float32 one is y itself."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], settings: ScheduleFree) -> None:
        self.settings = settings
        self.count = 0
        self._gradients = Gradients(named)
        self.parameters = self._gradients.parameters
        self.y = {n: p.detach() if p.dtype == torch.float32 else p.detach().float() for n, p in self.parameters.items()}
        self._inner = schedulefree.AdamWScheduleFree(
            list(self.y.values()),
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            warmup_steps=0,  # the loop's learning rate warms up, to the same weights: a test compares the two
            foreach=False,
        )
        self._inner.train()

    @property
    def master(self) -> dict[str, Tensor]:
        """A copy of x, the averaged weights, by name: what is saved as the model."""
        with self.averaged():
            return {name: point.clone() for name, point in self.y.items()}

    @contextmanager
    def averaged(self) -> Iterator[bool]:
        """Inside, the parameters hold x; afterwards they hold y again, to the bit. True once there is an average."""
        kept = {name: point.clone() for name, point in self.y.items()}
        self._inner.eval()
        self._publish()
        try:
            yield self.count > 0
        finally:
            self._inner.train()
            self._put(kept)

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
            self.y[name].grad = gradient.float().mul_(scale)
        self._group["lr"] = lr
        self._inner.step()
        self.count += 1
        for point in self.y.values():
            point.grad = None
        self.clear()
        self._publish()

    def state(self) -> dict[str, Tensor]:
        """y, z and the second moment by name, and the counters, for a safetensors file."""
        counters = [float(self._group[name]) for name in ("k", "weight_sum", "lr_max")]
        kept = {f"y.{name}": point for name, point in self.y.items()}
        for name, point in self.y.items():
            own = self._inner.state[point]  # empty where there was no gradient yet
            kept |= {f"z.{name}": own["z"], f"second.{name}": own["exp_avg_sq"]} if own else {}
        return kept | {COUNTERS: torch.tensor(counters, dtype=torch.float64)}

    def restore(
        self, master: Mapping[str, Tensor], moments: Mapping[str, Tensor], count: int, anew: Collection[str] = ()
    ) -> None:
        """Puts a saved state back, in place; x follows from y and z. Raises KeyError for another optimizer's.

        Raises CheckpointError where weights come in later: the average and its counters are of all weights together.
        """
        if anew:
            raise not_averaged(min(anew))
        self.clear()
        k, weights, largest = moments[COUNTERS].tolist()
        self._put({name: moments[f"y.{name}"] for name in self.y})
        for name, point in self.y.items():
            self._inner.state[point] = {}
            if (z := moments.get(f"z.{name}")) is not None:
                second = moments[f"second.{name}"]
                self._inner.state[point] = {"z": z.to(point, copy=True), "exp_avg_sq": second.to(point, copy=True)}
        self._group.update(k=int(k), weight_sum=weights, lr_max=largest)
        self.count = count

    def close(self) -> None:
        """Frees gradients and takes the hooks off the parameters."""
        self._gradients.close()

    @property
    def _group(self) -> dict[str, Any]:
        """The package's settings and counters."""
        group: dict[str, Any] = self._inner.param_groups[0]
        return group

    def _put(self, points: Mapping[str, Tensor]) -> None:
        for name, point in self.y.items():
            point.copy_(points[name])
        self._publish()

    def _publish(self) -> None:
        """Rounds the float32 weights into the parameters that compute in bfloat16."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if parameter.dtype != torch.float32:
                    parameter.copy_(self.y[name])
