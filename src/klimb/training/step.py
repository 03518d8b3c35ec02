"""One batch becomes one or more optimizer steps. Nothing that is not finite ever reaches the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from klimb import functional as F
from klimb.batch import Batch, Outputs, Terms
from klimb.errors import GenerationError
from klimb.objectives.base import Objective
from klimb.seeds import permutation, seed_of
from klimb.selection.base import Selector
from klimb.shapes import PerToken
from klimb.training.base import Correction, NoCorrection, Training, Truncate
from klimb.training.reference import Forward, measure
from klimb.training.stopwatch import Stopwatch
from klimb.training.updater import Updater


class NonFinite(Exception):
    """Names the first thing that was not finite."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How often, and in how many optimizer steps, each batch is learned from."""

    epochs: int = 1
    minibatches: int = 1


@dataclass(frozen=True, slots=True)
class Learner:
    """Everything that turns a batch into an update."""

    policy: Forward
    optimizer: Updater
    objective: Objective
    selector: Selector
    settings: Training
    reference: Forward | None = None
    passes: Passes = Passes()
    comparable: bool = True
    """Whether sampler log-probs are of the same distribution as the policy's (no top-p, no top-k)."""


@dataclass(slots=True)
class Tally:
    """What adds up over the parts of a batch."""

    sums: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    steps: int = 0

    def add(self, terms: Terms, weight: float) -> None:
        """Adds one part's weighted sums."""
        for name, value in {**terms.metrics, "loss": terms.loss.detach()}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.weight += weight

    def count(self, name: str, value: float) -> None:
        """Adds to a plain count."""
        self.counts[name] = self.counts.get(name, 0.0) + value

    def metrics(self) -> dict[str, float]:
        """Means over the trained tokens' weights; the loss is the mean over the optimizer steps that were taken."""
        loss = self.sums.pop("loss", 0.0)
        out = {name: value / self.weight for name, value in self.sums.items()} if self.weight > 0 else {}
        out["optim/skipped"] = float(len(self.skipped))
        if self.norms:
            out["loss"] = loss / len(self.norms)
        out["tokens/trained"] = tokens = self.counts.get("tokens", 0.0)
        if tokens:
            out["policy/entropy"] = self.counts["entropy"] / tokens
        if self.counts.get("gaps"):
            out["policy/gap"] = self.counts["gap"] / self.counts["gaps"]
            out["policy/gap_max"] = self.counts["gap_max"]
        if self.norms:
            out["optim/grad_norm"] = sum(self.norms) / len(self.norms)
        return out


def learn(
    learner: Learner, batch: Batch, lr: float, seed: int, watch: Stopwatch, stop: Callable[[], None] = lambda: None
) -> Tally:
    """Learns from one batch; `stop` may raise to abandon it as long as nothing has been updated."""
    tally, tokens = Tally(), learner.settings.micro_tokens
    try:
        batch = _prepare(learner, batch, tokens, watch)
    except NonFinite as fault:
        tally.skipped.append(str(fault))
        return tally
    for minibatch in minibatches(batch, learner.passes, seed):
        weighed = weigh(minibatch, learner.objective, learner.selector)
        part = weighed.take(torch.nonzero(learner.objective.live(weighed)).flatten())
        if part.rows == 0:
            continue
        tally.steps += 1
        try:
            norm = _accumulate(learner, part, tally, watch, stop if tally.steps == 1 else lambda: None)
        except NonFinite as fault:
            learner.optimizer.clear()
            tally.skipped.append(str(fault))
            continue
        with watch.stage("optimize"):
            learner.optimizer.step(lr, norm)
        tally.norms.append(norm)
    return tally


def _prepare(learner: Learner, batch: Batch, tokens: int, watch: Stopwatch) -> Batch:
    """Fills what the objective needs before the first pass: reference and old log-probs, advantages."""
    _check("reward", batch.reward)
    if learner.objective.refers:
        assert learner.reference is not None
        with watch.stage("reference"):
            batch = batch.replace(ref=measure(learner.reference, batch, tokens))
    batch = learner.objective.advantage(batch)
    if learner.passes.epochs * learner.passes.minibatches > 1:
        with watch.stage("reference"):
            batch = batch.replace(old=measure(learner.policy, batch, tokens))
    for name in ("sampler", "old", "ref", "advantage"):
        if (value := getattr(batch, name)) is not None:
            _check(name, value)
    return batch


def _accumulate(learner: Learner, batch: Batch, tally: Tally, watch: Stopwatch, stop: Callable[[], None]) -> float:
    """Backward over every part of one optimizer step; returns the gradient's norm."""
    parts = list(batch.split(learner.settings.micro_tokens))
    learner.optimizer.begin(len(parts))
    pending = Tally()
    with watch.stage("train"):
        for micro in parts:
            stop()
            now = learner.policy(micro)
            _check("logp", now.logp)
            _observe(pending, micro, now, learner)
            fair = corrected(micro, now, learner.settings.correction, learner.comparable)
            terms = learner.objective.loss(now, fair)
            _check("loss", terms.loss)
            terms.loss.backward()
            pending.add(terms, float(batch_weight(fair).sum()))
        norm = learner.optimizer.norm()
    if not torch.isfinite(torch.tensor(norm)):
        bad = learner.optimizer.bad_gradients()
        raise NonFinite(f"gradient of {bad[0] if bad else 'the whole (its norm)'}")
    _merge(tally, pending)
    return norm


def minibatches(batch: Batch, passes: Passes, seed: int) -> Iterator[Batch]:
    """The batch `epochs` times, each time cut by prompts, in an order that depends on the seed only."""
    if passes.minibatches == 1:
        for _ in range(passes.epochs):
            yield batch
        return
    for epoch in range(passes.epochs):
        order = torch.from_numpy(permutation(seed_of("minibatch", seed), epoch, len(batch.prompts)))
        for groups in order.tensor_split(passes.minibatches):
            rows = torch.isin(batch.group, groups)
            if bool(rows.any()):
                yield batch.take(torch.nonzero(rows).flatten())


def weigh(batch: Batch, objective: Objective, selector: Selector) -> Batch:
    """The tokens that learn and their weights, over the whole optimizer step."""
    batch = batch.replace(learn=selector.keep(batch))
    return batch.replace(weight=objective.weighting(batch))


def corrected(batch: Batch, now: Outputs, correction: Correction, comparable: bool) -> Batch:
    """Weights times the importance of the trainer's old policy over the sampler's, as the settings say.

    Raises GenerationError where that is asked for and the generator gave no log-probs of the same distribution.
    """
    if isinstance(correction, NoCorrection) or batch.weight is None:
        return batch
    if batch.sampler is None or not comparable:
        raise GenerationError(
            f"correct for the sampler by importance weights (training.correction.type={correction.type})",
            "the generator gave no log-probs of the distribution that the policy is trained at",
            "a generator that gives log-probs, sampling.temperature=1.0, or training.correction.type=none",
        )
    ratio = batch.old_or(now.logp) - batch.sampler
    if isinstance(correction, Truncate):
        return batch.replace(weight=batch.weight * F.importance.truncated(ratio, correction.cap))
    return batch.replace(weight=batch.weight * F.importance.masked(ratio, correction.low, correction.high))


def batch_weight(batch: Batch) -> PerToken:
    """The weights, which are there once `weigh` has run."""
    assert batch.weight is not None
    return batch.weight


def _observe(tally: Tally, batch: Batch, now: Outputs, learner: Learner) -> None:
    """Counts entropy, and how far the sampler's log-probs are from those of the same weights in our own arithmetic."""
    tally.count("tokens", batch.tokens.numel())
    tally.count("entropy", float(now.entropy.sum()))
    if batch.sampler is None or not learner.comparable or not batch.tokens.numel():
        return
    gap = (batch.old_or(now.logp) - batch.sampler).abs()
    tally.count("gap", float(gap.sum()))
    tally.count("gaps", gap.numel())
    tally.counts["gap_max"] = max(tally.counts.get("gap_max", 0.0), float(gap.max()))


def _merge(into: Tally, part: Tally) -> None:
    """Takes over the sums of an optimizer step once its gradient is known to be finite."""
    for name, value in part.sums.items():
        into.sums[name] = into.sums.get(name, 0.0) + value
    into.weight += part.weight
    largest = max(into.counts.get("gap_max", 0.0), part.counts.pop("gap_max", 0.0))
    for name, value in part.counts.items():
        into.count(name, value)
    into.counts["gap_max"] = largest


def _check(name: str, value: Tensor) -> None:
    if not bool(torch.isfinite(value).all()):
        raise NonFinite(name)
