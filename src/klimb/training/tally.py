"""What adds up over the parts of a batch: weighted sums, plain counts, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from klimb.batch import Terms


@dataclass(slots=True)
class Updates:
    """The updates of one model in a step: the gradient's norm at each, and what was not finite where none was made."""

    norms: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def stuck(self) -> bool:
        """Whether something that was not finite kept it from every update."""
        return bool(self.skipped) and not self.norms


@dataclass(slots=True)
class Tally:
    """What adds up over the parts of a batch."""

    sums: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    kl: dict[str, float] = field(default_factory=dict)
    """The sums of a KL with weights of its own, and `kl_weight`, what these add up to."""
    kl_weight: float = 0.0
    fit: dict[str, float] = field(default_factory=dict)
    """The sums of a critic beside a selector, and `fit_weight`, what their weights add up to."""
    fit_weight: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)
    updates: Updates = field(default_factory=Updates)
    """The policy's updates; what was not finite before any gradient was there is among them."""
    critic: Updates = field(default_factory=Updates)
    """Those of a critic with a model of its own."""
    steps: int = 0
    values: dict[str, list[Tensor]] = field(default_factory=dict)
    """Values of which quantiles are told."""
    facts: dict[str, float] = field(default_factory=dict)
    """What is known of the whole batch, or carried from step to step, and so does not add up."""

    @property
    def skipped(self) -> list[str]:
        """What was not finite, wherever an update was not made for it."""
        return [*self.updates.skipped, *self.critic.skipped]

    @property
    def stuck(self) -> bool:
        """Whether something that was not finite kept the policy, or its critic, from every update."""
        return self.updates.stuck or self.critic.stuck

    def add(self, terms: Terms, weight: float, kl_weight: float = 0.0, fit_weight: float = 0.0) -> None:
        """Adds one part's weighted sums, and what their weights add up to."""
        _plus(self.sums, {**terms.metrics, "loss": terms.loss.detach()})
        _plus(self.kl, terms.kl)
        _plus(self.fit, terms.fit)
        self.weight += weight
        self.kl_weight += kl_weight
        self.fit_weight += fit_weight

    def count(self, name: str, value: float) -> None:
        """Adds to a plain count."""
        self.counts[name] = self.counts.get(name, 0.0) + value

    def keep(self, name: str, values: Tensor) -> None:
        """Keeps values whose quantiles are wanted."""
        self.values.setdefault(name, []).append(values)

    def kept(self, name: str) -> Tensor | None:
        """All the values that were kept under a name; None where there are none."""
        return torch.cat(self.values[name]) if self.values.get(name) else None

    def mean(self, name: str) -> float | None:
        """The mean of a weighted sum; None where it was not made."""
        return self._means().get(name)

    def metrics(self) -> dict[str, float]:
        """Means over the trained tokens' weights; the loss is the mean over the optimizer steps that were taken."""
        loss = self.sums.pop("loss", 0.0)
        out = self._means() | self.facts
        if norms := self.updates.norms:
            out["loss"] = loss / len(norms)
        tokens = self.counts.get("tokens", 0.0)
        out["tokens/trained"] = self.counts.get("weighted", 0.0)
        if tokens and "entropy" in self.counts:
            out["policy/entropy"] = self.counts["entropy"] / tokens
        if self.counts.get("gaps"):
            out["policy/gap"] = self.counts["gap"] / self.counts["gaps"]
            out["policy/gap_max"] = self.counts["gap_max"]
        return out | self._selection() | self._updates()

    def _means(self) -> dict[str, float]:
        """Each weighted sum over what its weights add up to."""
        pairs = ((self.sums, self.weight), (self.kl, self.kl_weight), (self.fit, self.fit_weight))
        return {name: value / weight for sums, weight in pairs if weight > 0 for name, value in sums.items()}

    def _updates(self) -> dict[str, float]:
        """Of the policy, and of a critic with a model of its own: updates left out, the mean norm of those made."""
        out = {"optim/skipped": float(len(self.updates.skipped))}
        if self.critic.norms or self.critic.skipped:
            out["optim/critic_skipped"] = float(len(self.critic.skipped))
        for name, made in (("optim/grad_norm", self.updates), ("optim/critic_grad_norm", self.critic)):
            if made.norms:
                out[name] = sum(made.norms) / len(made.norms)
        return out

    def _selection(self) -> dict[str, float]:
        """What a selector kept; nothing where none was at work or no token could learn."""
        counts, out = self.counts, {}
        dropped = counts.get("learning", 0.0) - counts.get("kept", 0.0)
        ratios = {
            "selection/share": ("kept", counts.get("learning")),
            "selection/share_live": ("kept_live", counts.get("learning_live")),
            "selection/entropy_kept": ("entropy_kept", counts.get("kept")),
            "selection/entropy_dropped": ("entropy_dropped", dropped),
            "selection/threshold": ("threshold", counts.get("thresholds")),
            "selection/clip_share_all": ("clipped_all", counts.get("whole")),
        }
        for name, (above, below) in ratios.items():
            if above in counts and below:
                out[name] = counts[above] / below
        return out

    def merge(self, part: Tally) -> None:
        """Takes over the sums of an optimizer step once its gradient is known to be finite."""
        _plus(self.sums, part.sums)
        _plus(self.kl, part.kl)
        _plus(self.fit, part.fit)
        self.weight += part.weight
        self.kl_weight += part.kl_weight
        self.fit_weight += part.fit_weight
        largest = {m: max(self.counts.get(m, 0.0), part.counts.pop(m, 0.0)) for m in ("gap_max", "age_max")}
        for name, value in part.counts.items():
            self.count(name, value)
        self.counts |= largest
        for name, parts in part.values.items():
            self.values.setdefault(name, []).extend(parts)


def _plus(sums: dict[str, float], more: Mapping[str, Tensor | float]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + float(value)
