"""One batch becomes one or more optimizer steps. Nothing that is not finite ever reaches the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from klimb import functional as F
from klimb.batch import Batch, Outputs
from klimb.objectives.base import Objective
from klimb.selection.base import Selector
from klimb.shapes import PerToken
from klimb.training import believing
from klimb.training.base import Training
from klimb.training.carrying import Carrier
from klimb.training.own_critic import OwnCritic
from klimb.training.reference import Forward, measure, outputs, values
from klimb.training.replaying import all_drawn_earlier, by_behaviour
from klimb.training.selecting import clipped_of_all, ranked, reads_current, tell
from klimb.training.stopwatch import Stopwatch
from klimb.training.tally import Tally, Updates
from klimb.training.updater import Updater
from klimb.training.weighing import Passes, corrected, minibatches, weigh


class NonFinite(Exception):
    """Names the first thing that was not finite."""


@dataclass(frozen=True, slots=True)
class Learner:
    """Everything that turns a batch into an update."""

    policy: Forward
    optimizer: Updater
    objective: Objective
    selector: Selector
    settings: Training
    reference: Forward | None = None
    passes: Passes = field(default_factory=Passes)
    comparable: bool = True
    """Whether sampler log-probs are of the same distribution as the policy's (no top-p, no top-k)."""
    carriers: Mapping[str, Carrier] = field(default_factory=dict)
    """What the objective wants carried from step to step."""
    temperature: float | None = None
    """The temperature of the policy that learns; None = that at which the batch was drawn."""
    behaviour: bool = False
    """Whether the old policy of answers that are replayed is the one that drew them, and not the trainer's own."""
    critic: OwnCritic | None = None
    """What says the values where the policy itself does not, and what updates it."""

    @property
    def several(self) -> bool:
        """Whether the trainer's log-probs are measured before the first pass: not where nothing reads any."""
        wanted = self.objective.reads_old or self.passes.epochs * self.passes.minibatches > 1
        return wanted and self.objective.reads_logp

    @property
    def updaters(self) -> Sequence[Updater]:
        """The policy's optimizer, and that of a critic with a model of its own: its own norm and clip."""
        return (self.optimizer,) if self.critic is None else (self.optimizer, self.critic.optimizer)

    def clear(self) -> None:
        """Forgets every gradient."""
        for updater in self.updaters:
            updater.clear()

    def now(self, batch: Batch) -> Outputs:
        """What the policy says of a batch, and its critic."""
        found = self.policy(batch)
        return found if self.critic is None else replace(found, value=self.critic(batch))

    def measures_old(self, batch: Batch) -> bool:
        """Whether they are for this batch: not where the old policy of all its answers is the one that drew them."""
        return self.several and not (self.behaviour and all_drawn_earlier(batch))


def learn(
    learner: Learner,
    batch: Batch,
    lr: float,
    seed: int,
    watch: Stopwatch,
    stop: Callable[[], None] = lambda: None,
    critic_lr: float | None = None,
) -> Tally:
    """Learns from one batch; `stop` may raise to abandon it as long as nothing has been updated.

    `critic_lr` is the learning rate of a critic with a model of its own; None = the policy's.
    """
    tally, tokens = Tally(), learner.settings.micro_tokens
    try:
        batch = _prepare(learner, batch, tokens, watch)
        tally.facts |= _known(batch)
    except NonFinite as fault:
        tally.updates.skipped.append(str(fault))
        return tally
    for minibatch in minibatches(batch, learner.passes, seed):
        asked = learner.measures_old(batch) or batch.value is not None  # and with them the entropies
        ranks = _ranked(learner, minibatch, tokens, watch, fresh=tally.steps == 0 and asked)
        weighed = weigh(ranks, learner.objective, learner.selector, tokens)
        tell(tally, ranks, weighed, learner.selector)
        part = weighed.take(torch.nonzero(learner.objective.live(weighed)).flatten())
        if part.rows == 0:
            continue
        tally.steps += 1
        try:
            pending, norms = _accumulate(learner, part, watch, stop if tally.steps == 1 else lambda: None)
        except NonFinite as fault:
            learner.clear()
            tally.updates.skipped.append(str(fault))
            continue
        with watch.stage("optimize"):
            if _update(learner.optimizer, lr, norms[0], tally.updates):
                tally.merge(pending)
            if learner.critic is not None:
                rate = lr if critic_lr is None else critic_lr
                _update(learner.critic.optimizer, rate, norms[1], tally.critic, "the critic's ")
    for carrier in learner.carriers.values():
        tally.facts |= carrier.observe(batch, tally.mean("policy/kl_ref"))
    return tally


def _prepare(learner: Learner, batch: Batch, tokens: int, watch: Stopwatch) -> Batch:
    """Fills what the objective needs before the first pass: reference and old log-probs, values, advantages.

    A critic's values are needed before the first loss, so it costs a forward pass even where old = now: its own alone.
    """
    _check("reward", batch.reward)
    numbers = {name: value for carrier in learner.carriers.values() for name, value in carrier.numbers().items()}
    batch = batch.replace(carried=numbers)
    if learner.temperature is not None:
        batch = batch.replace(temperature=learner.temperature)
    if learner.objective.refers:
        assert learner.reference is not None
        with watch.stage("reference"):
            batch = batch.replace(ref=measure(learner.reference, batch, tokens))
    several, current = learner.measures_old(batch), reads_current(learner.selector, batch.temperature)
    if several or learner.objective.reads_value:
        with watch.stage("reference"):
            if learner.critic is not None and not several and not current:
                batch = batch.replace(old=None, value=values(learner.critic, batch, tokens))
            else:
                found = outputs(learner.now, batch, tokens)
                entropy = found.entropy if current else batch.entropy
                batch = batch.replace(old=found.logp if several else None, value=found.value, entropy=entropy)
    if learner.behaviour:
        batch = by_behaviour(batch)
    ranks = ("entropy",) if learner.selector.ranks_by else ()
    for name in ("sampler", "old", "ref", "value", *ranks):
        if (value := getattr(batch, name)) is not None:
            _check(name, value)
    batch = learner.objective.advantage(batch)
    for name in ("advantage", "returns"):
        if (value := getattr(batch, name)) is not None:
            _check(name, value)
    return batch


def _ranked(learner: Learner, batch: Batch, tokens: int, watch: Stopwatch, fresh: bool) -> Batch:
    """The entropies that the selector ranks by; those of the pass before the first update will do until it."""
    by = learner.selector.ranks_by
    if by is None or (fresh and reads_current(learner.selector, batch.temperature)):
        return batch
    with watch.stage("select"):
        return ranked(batch, learner.selector, learner.policy, tokens)


def _accumulate(
    learner: Learner, batch: Batch, watch: Stopwatch, stop: Callable[[], None]
) -> tuple[Tally, list[float]]:
    """Backward over every part of one optimizer step; gives its sums, and the gradient's norm of each updater."""
    parts, pending = list(batch.split(learner.settings.micro_tokens)), Tally()
    for updater in learner.updaters:
        updater.begin(len(parts))
    with watch.stage("train"):
        for micro in parts:
            stop()
            now = learner.now(micro)
            _check("logp", now.logp)
            if now.value is not None:
                _check("value", now.value)
            _observe(pending, micro, now, learner)
            fair = corrected(micro, now, learner.settings.correction, learner.comparable)
            terms = learner.objective.loss(now, fair)
            believing.pull(pending, learner.objective, now, fair)
            _check("loss", terms.loss)
            terms.loss.backward()
            pending.add(terms, float(batch_weight(fair).sum()), _total(fair.kl_weight), _total(fair.whole))
            clipped_of_all(pending, learner.objective, now, fair)
        return pending, [updater.norm() for updater in learner.updaters]


def _update(optimizer: Updater, lr: float, norm: float, updates: Updates, whose: str = "") -> bool:
    """One update, if its gradient is finite; else what is not is named, and the gradient is forgotten."""
    if math.isfinite(norm):
        optimizer.step(lr, norm)
        updates.norms.append(norm)
        return True
    bad = optimizer.bad_gradients()
    what = f"{whose}{bad[0]}" if bad else f"{whose or 'the '}whole (its norm)"
    updates.skipped.append(f"gradient of {what}")
    optimizer.clear()
    return False


def batch_weight(batch: Batch) -> PerToken:
    """The weights, which are there once `weigh` has run."""
    assert batch.weight is not None
    return batch.weight


def _total(weight: PerToken | None) -> float:
    return 0.0 if weight is None else float(weight.sum())


def _observe(tally: Tally, batch: Batch, now: Outputs, learner: Learner) -> None:
    """Counts entropy, and how far the sampler's log-probs are from those of the same weights in our own arithmetic."""
    tally.count("tokens", batch.tokens.numel())
    if learner.objective.reads_logp:
        tally.count("entropy", float(now.entropy.sum()))
    tally.count("weighted", float((batch_weight(batch) != 0).sum()))
    if batch.sampler is None or not learner.comparable or not batch.tokens.numel():
        return
    believing.observe(tally, batch, now)
    gap = (batch.old_or(now.logp) - batch.sampler).abs()[believing.fresh(batch)[batch.row]]
    if gap.numel():
        tally.count("gap", float(gap.sum()))
        tally.count("gaps", gap.numel())
        tally.counts["gap_max"] = max(tally.counts.get("gap_max", 0.0), float(gap.max()))


def _known(batch: Batch) -> dict[str, float]:
    """How well the critic knew the returns before this step; nothing without one, or where they do not vary."""
    if batch.value is None or batch.returns is None:
        return {}
    share = float(F.value.explained_variance(batch.value, batch.returns, batch.learn))
    return {"value/explained_variance": share} if math.isfinite(share) else {}


def _check(name: str, value: Tensor) -> None:
    if not bool(torch.isfinite(value).all()):
        raise NonFinite(name)
