"""A view: some rollouts with every value of every token that is known or can be measured, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from klimb.lens.statistics import Overlap
from klimb.lens.words import Words

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.lens.measure import Measured
    from klimb.policy.policy import Policy
    from klimb.types import Group

Floats = NDArray[np.float32]
Learning = Callable[["Batch", dict[str, "Floats"], list[str]], Sequence[bool]]
"""Adds `advantage` and `kept` to the values, or a line on what is missing; says which rows had a gradient."""
LIMIT = 20.0
"""Log-ratios are clamped to this before the exponential, as in training."""


@dataclass(frozen=True, slots=True)
class Scorers:
    """What measures a view: a policy with its name, the initial policy, what says what learned.

    `drew` says that the policy is the very one that drew the rollouts: then there is no ratio to show.
    """

    policy: Policy | None = None
    label: str = ""
    initial: Policy | None = None
    learning: Learning | None = None
    words: Words = field(default_factory=lambda: Words(None))
    drew: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """Rollouts and the values of their tokens, flat in the order of rows; a value that is not known is not in `values`.

    `likeliest` and `probability` (t, 5) are the top alternatives; `live[r]` is False for rows without a gradient.
    """

    name: str
    policy: str
    groups: Sequence[Group]
    tokens: NDArray[np.int64]
    row: NDArray[np.int64]
    values: Mapping[str, Floats]
    words: Words
    likeliest: NDArray[np.int64] | None = None
    probability: Floats | None = None
    live: Sequence[bool] = ()
    missing: Sequence[str] = ()
    overlaps: Mapping[str, Overlap] = field(default_factory=dict)
    """The overlap of the top-entropy tokens with the initial policy's, by whose rollouts and weights it is."""
    least: int | None = None
    """How often a token string must occur to be listed; None = three times, and once in a thousand tokens."""


def look(name: str, groups: Sequence[Group], scorers: Scorers, missing: Sequence[str] = ()) -> View:
    """Measures what can be measured; everything that cannot be shown is named in `missing`."""
    from klimb.batch import Batch
    from klimb.lens.measure import measure

    batch, lacks = _comparable(Batch.of(groups), groups), list(missing)
    values = _recorded(batch, lacks)
    found = None
    if scorers.policy is not None and batch.tokens.numel():
        found = measure(scorers.policy, batch, _other(scorers))
        _add_measured(values, found, scorers, lacks)
    live = [] if scorers.learning is None else scorers.learning(batch, values, lacks)
    return View(
        name=name,
        policy=scorers.label,
        groups=groups,
        tokens=batch.tokens.numpy(),
        row=batch.row.numpy(),
        values=values,
        words=scorers.words,
        likeliest=None if found is None else found.likeliest,
        probability=None if found is None else found.probability,
        live=live,
        missing=tuple(lacks),
    )


def _other(scorers: Scorers) -> Policy | None:
    return None if scorers.initial is scorers.policy else scorers.initial


def _comparable(batch: Batch, groups: Sequence[Group]) -> Batch:
    """The batch at a temperature that has a distribution; recorded log-probs only where they are of that one."""
    transforms = {group.transform for group in groups}
    if batch.temperature == 0:
        return replace(batch, temperature=1.0, sampler=None, entropy=None)
    if not all(transform.comparable for transform in transforms):
        return replace(batch, sampler=None)
    return batch


def _recorded(batch: Batch, missing: list[str]) -> dict[str, Floats]:
    values = {}
    for name, what, value in (("logp", "log-probs", batch.sampler), ("entropy", "entropies", batch.entropy)):
        if value is not None:
            values[name] = value.numpy()
        else:
            missing.append(f"the sampler's own {what} (not recorded, or not of the distribution that is measured)")
    return values


def _add_measured(values: dict[str, Floats], found: Measured, scorers: Scorers, missing: list[str]) -> None:
    """Log-prob, entropy, ratio and KL under the policy; and log-prob and entropy for what was not recorded."""
    values["now_logp"], values["now_entropy"] = found.logp, found.entropy
    if "logp" in values and not scorers.drew:
        values["ratio"] = np.exp(np.clip(found.logp - values["logp"], -LIMIT, LIMIT))
    elif "logp" not in values:
        missing.append("the ratio of new to old probability (the old one is not known)")
        values["logp"] = found.logp
    values.setdefault("entropy", found.entropy)
    if scorers.initial is scorers.policy:
        values["kl"] = np.zeros_like(found.logp)
        values["initial_logp"], values["initial_entropy"] = found.logp, found.entropy
    elif found.kl is not None and found.initial_logp is not None and found.initial_entropy is not None:
        values["kl"] = found.kl
        values["initial_logp"], values["initial_entropy"] = found.initial_logp, found.initial_entropy
