"""Whether an off-policy estimate can be believed: how much the drawn answers count for the policy as it is now.

All is counted over the rows that ran, in every update, so that it adds up over parts.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from klimb import functional as F
from klimb.batch import Batch, Outputs
from klimb.objectives import RPG, Objective
from klimb.objectives.carried import COEFFICIENT
from klimb.objectives.penalty import Penalised
from klimb.shapes import PerToken, RowMask
from klimb.training.tally import Tally

RATIOS = "replay/ratio"
MARKS = {"p05": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}
"""The quantiles that are told."""


def fresh(batch: Batch) -> RowMask:
    """The rows that were drawn in this step."""
    return torch.ones_like(batch.scored) if batch.age is None else batch.age < 0


def observe(tally: Tally, batch: Batch, now: Outputs) -> None:
    """Counts the weights pi / mu of answers and tokens, mu being whatever drew them."""
    assert batch.sampler is not None
    gap = (now.logp.detach() - batch.sampler).double()
    whole = F.importance.ratio(F.segments.sum_by(torch.where(batch.learn, gap, 0.0), batch.row, batch.rows))
    _weights(tally, "policy", whole)
    if batch.age is None:
        return
    again = ~fresh(batch)
    ages = batch.age[again].double()
    _weights(tally, "replay", whole[again])
    tally.count("ages", float(ages.sum()))
    tally.counts["age_max"] = max(tally.counts.get("age_max", 0.0), float(ages.max()) if len(ages) else 0.0)
    inside = again[batch.row]
    tally.keep(RATIOS, F.importance.ratio(gap[inside]))
    if batch.old is not None or inside.any():
        apart = (batch.old_or(now.logp) - batch.sampler).abs()[inside]
        tally.count("apart", float(apart.sum()))
        tally.count("aparts", apart.numel())


def pull(tally: Tally, objective: Objective, now: Outputs, batch: Batch) -> None:
    """Counts the squares of the loss's gradient in the log-probs: that of its KL, and that of all else.

    What the KL is, is the difference that it makes: inside a clip it also moves where the clip cuts.
    """
    if not _has_kl(objective):
        return
    carried = {name: value for name, value in batch.carried.items() if name != COEFFICIENT}
    calm = objective.model_copy(update={"beta": 0.0})
    whole, rest = _slope(objective, now, batch), _slope(calm, now, batch.replace(carried=carried))
    tally.count("pull", float((whole - rest).double().square().sum()))
    tally.count("push", float(rest.double().square().sum()))


def metrics(tally: Tally) -> dict[str, float]:
    """What was counted, as metrics; nothing of what was not there."""
    counts, out = tally.counts, dict[str, float]()
    for kind in ("policy", "replay"):
        if rows := counts.get(f"{kind}_rows"):
            out[f"{kind}/effective"] = counts[f"{kind}_weight"] ** 2 / max(counts[f"{kind}_squares"], 1e-300) / rows
    if rows := counts.get("replay_rows"):
        out |= {"replay/age": counts["ages"] / rows, "replay/age_max": counts["age_max"]}
    if counts.get("aparts"):
        out["replay/gap"] = counts["apart"] / counts["aparts"]
    if (ratios := tally.kept(RATIOS)) is not None and len(ratios):
        marks = torch.tensor(list(MARKS.values()), dtype=torch.float64)
        found = torch.quantile(ratios[: 1 << 23], marks).tolist()
        out |= {f"{RATIOS}_{name}": value for name, value in zip(MARKS, found, strict=True)}
    if "pull" in counts and counts["pull"] + counts["push"] > 0:
        kl, rest = math.sqrt(counts["pull"]), math.sqrt(counts["push"])
        out["objective/kl_share"] = kl / (kl + rest)
    return out


def _weights(tally: Tally, kind: str, weight: torch.Tensor) -> None:
    tally.count(f"{kind}_rows", len(weight))
    tally.count(f"{kind}_weight", float(weight.sum()))
    tally.count(f"{kind}_squares", float(weight.square().sum()))


def _has_kl(objective: Objective) -> bool:
    """Whether there is a KL in the loss itself; in the reward it is one with the advantage."""
    if isinstance(objective, Penalised):
        return objective.forced
    return isinstance(objective, RPG) and objective.beta > 0


def _slope(objective: Objective, now: Outputs, batch: Batch) -> PerToken:
    """The gradient of the loss in each token's log-prob."""
    logp = now.logp.detach().requires_grad_()
    with torch.enable_grad():
        loss = objective.loss(replace(now, logp=logp), batch).loss
    (found,) = torch.autograd.grad(loss, logp, allow_unused=True, materialize_grads=True)
    return found
