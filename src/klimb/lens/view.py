"""A view: some rollouts with every value of every token that is known or can be measured, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from klimb.lens.words import Words

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.lens.measure import Measured
    from klimb.objectives.base import Objective
    from klimb.policy.policy import Policy
    from klimb.selection.base import Selector
    from klimb.types import Group

Floats = NDArray[np.float32]
LIMIT = 20.0
"""Log-ratios are clamped to this before the exponential, as in training."""


@dataclass(frozen=True, slots=True)
class Scorers:
    """What measures a view: a policy with its name, the initial policy, the rule that says what learns.

    `drew` says that the policy is the very one that drew the rollouts: then there is no ratio to show.
    """

    policy: Policy | None = None
    label: str = ""
    initial: Policy | None = None
    objective: Objective | None = None
    selector: Selector | None = None
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
    overlaps: Mapping[str, float] = field(default_factory=dict)
    """The overlap of the top-entropy tokens with the initial policy's, by whose rollouts and weights it is."""


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
    live = _add_learning(values, batch, scorers, lacks)
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
    if any(transform.truncates for transform in transforms):
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


def _add_learning(values: dict[str, Floats], batch: Batch, scorers: Scorers, missing: list[str]) -> list[bool]:
    """Advantages and kept tokens, by the run's own objective and selector; whether each row has a gradient."""
    import torch

    if scorers.objective is None or scorers.selector is None:
        return []
    if "initial_logp" in values:
        batch = batch.replace(ref=torch.from_numpy(values["initial_logp"]))
    if batch.entropy is None and "entropy" in values:
        batch = batch.replace(entropy=torch.from_numpy(values["entropy"]))
    batch = batch.replace(old=batch.sampler)
    try:
        batch = scorers.objective.advantage(batch)
        assert batch.advantage is not None
        values["advantage"] = batch.advantage.numpy()
        keep = scorers.selector.keep(batch)
        values["kept"] = keep.numpy().astype(np.float32)
        batch = batch.replace(learn=keep)
        live = scorers.objective.live(batch.replace(weight=scorers.objective.weighting(batch)))
    except ValueError as error:  # a method that needs what only training has, such as a critic's values
        missing.append(f"advantages or kept tokens ({error})")
        return []
    return [bool(row) for row in live.tolist()]
