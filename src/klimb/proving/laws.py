"""What holds for every objective, whatever its formula. `check` names each law that an objective breaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pydantic import TypeAdapter

from klimb.batch import Batch
from klimb.objectives import AnyObjective, Objective
from klimb.objectives.rpg import AT_REST
from klimb.proving.catalog import changed
from klimb.proving.makeup import MAKEUPS
from klimb.proving.samples import moved, outputs, ready, reordered, sample_batch, update
from klimb.tracking.metrics import unknown

SEEDS = range(3)


def check(objective: Objective) -> list[str]:
    """The laws that `objective` breaks, each a sentence; none for a sound one."""
    return [sentence for sentence, holds in LAWS.items() if not holds(objective)]


def close(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether the same numbers are there, equal but for rounding in float64."""
    return a.keys() == b.keys() and all(abs(a[k] - b[k]) <= max(1e-13, 1e-12 * abs(b[k])) for k in a)


def add_up(objective: Objective, whole: Batch, logp: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether loss, metrics and gradient of the parts (rows by label) are together those of the whole, made `ready`."""
    numbers, gradient = update(objective, whole, logp)
    sums, pieces = dict.fromkeys(numbers, 0.0), torch.zeros_like(gradient)
    for label in labels.unique():
        rows = torch.nonzero(labels == label).flatten()
        inside = torch.isin(whole.row, rows)
        found, piece = update(objective, whole.take(rows), logp.detach()[inside].requires_grad_())
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
        pieces[inside] = piece
    return close(sums, numbers) and torch.allclose(pieces, gradient, rtol=1e-12, atol=1e-14)


def any_order(objective: Objective, whole: Batch, logp: torch.Tensor, seed: int) -> bool:
    """Whether rows and groups in another order give the same."""
    other, tokens = reordered(whole, seed)
    numbers, gradient = update(objective, ready(objective, whole), logp)
    found, turned = update(objective, ready(objective, other), logp.detach()[tokens].requires_grad_())
    return close(found, numbers) and torch.allclose(turned, gradient[tokens], rtol=1e-10, atol=1e-14)


def without_divergence(objective: Objective) -> Objective:
    """The same objective without a KL term."""
    return changed(objective, beta=0.0) if "beta" in type(objective).model_fields else objective


def _drawn(objective: Objective) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Random batches, made ready, with a policy that has moved."""
    for seed in SEEDS:
        whole = sample_batch(seed)
        yield ready(objective, whole), moved(whole, seed)


def _parts(objective: Objective) -> bool:
    return all(
        add_up(objective, whole, logp, torch.arange(whole.rows) * 7 % cuts)
        for whole, logp in _drawn(objective)
        for cuts in (2, 5)
    )


def _packed(objective: Objective) -> bool:
    """One row a part, the finest split that packing can make."""
    return all(add_up(objective, whole, logp, torch.arange(whole.rows)) for whole, logp in _drawn(objective))


def _order(objective: Objective) -> bool:
    return all(any_order(objective, sample_batch(seed), moved(sample_batch(seed), seed), seed) for seed in SEEDS)


def _masked(objective: Objective) -> bool:
    for whole, logp in _drawn(objective):
        numbers, gradient = update(objective, whole, logp)
        noise = torch.where(whole.learn, logp.detach(), logp.detach() - 5).requires_grad_()
        found, same = update(objective, whole, noise)
        if bool((gradient[~whole.learn] != 0).any()) or found != numbers or not torch.equal(same, gradient):
            return False
    return True


def _unscored(objective: Objective) -> bool:
    for seed in SEEDS:
        whole = sample_batch(seed)
        logp = moved(whole, seed)
        numbers, gradient = update(objective, ready(objective, whole), logp)
        noise = torch.where(whole.scored, whole.reward, torch.full_like(whole.reward, 1e4))
        found, same = update(objective, ready(objective, whole.replace(reward=noise)), logp)
        if bool((gradient[~whole.scored[whole.row]] != 0).any()) or found != numbers or not torch.equal(same, gradient):
            return False
    return True


def _asleep(objective: Objective) -> bool:
    for whole, logp in _drawn(objective):
        for known in (whole, whole.replace(old=None)):
            _, gradient = update(objective, known, logp)
            if bool((gradient[~objective.live(known)[whole.row]] != 0).any()):
                return False
    return True


def _calm(objective: Objective) -> bool:
    """Advantages of zero, whatever they come from, and no divergence."""
    calm = without_divergence(objective)
    for whole, logp in _drawn(calm):
        still = whole.replace(advantage=torch.zeros_like(logp))
        awake = bool(calm.live(still).any()) and not calm.critic  # a critic learns from every row
        if awake or bool((update(calm, still, logp)[1] != 0).any()):
            return False
    return True


def _first_step(objective: Objective) -> bool:
    """Unnormalised KLs and Jeffreys' to the sampler pull by exactly nothing while the policy is the sampler."""
    fields = type(objective).model_fields
    towards = getattr(objective, "reference", "") == "old" and "beta" in fields
    if not (towards and getattr(objective, "divergence", "") in AT_REST):
        return True
    strong, none = changed(objective, beta=9.0), changed(objective, beta=0.0)
    return all(
        float((update(strong, whole, logp)[1] - update(none, whole, logp)[1]).abs().max()) <= 1e-15
        for whole, logp in ((w.replace(old=None), logp) for w, logp in _drawn(objective))
    )


def _first_is_now(objective: Objective) -> bool:
    for whole, logp in _drawn(objective):
        first, gradient = update(objective, whole.replace(old=None), logp)
        given, same = update(objective, whole.replace(old=logp.detach()), logp)
        if first != given or not torch.equal(gradient, same):
            return False
    return True


def _selected(objective: Objective, whole: Batch) -> Batch:
    """Every third token kept by a selector, the KL's weights those of all."""
    kept = whole.replace(learn=whole.learn & (torch.arange(len(whole.row)) % 3 == 0), able=whole.learn)
    return kept.replace(weight=objective.weighting(kept).to(torch.float64), kl_weight=whole.weight)


def _kl_of_all(objective: Objective) -> bool:
    """With some tokens left out by a selector, and the KL's own weights those of the whole."""
    if objective.kl_place != "loss":
        return True
    calm = without_divergence(objective)
    for whole, logp in _drawn(objective):
        kept = _selected(objective, whole)
        pulls = []
        for batch in (kept, whole):
            (loss, slope), (rest, others) = update(objective, batch, logp), update(calm, batch, logp)
            pulls.append(torch.cat([slope - others, torch.tensor([loss["loss"] - rest["loss"]])]))
        asleep = ~objective.live(kept)[whole.row]
        still = not bool((update(objective, kept, logp)[1][asleep] != 0).any())
        parts = add_up(objective, kept, logp, torch.arange(whole.rows) % 3)
        if not (still and parts and torch.allclose(pulls[0], pulls[1], rtol=1e-9, atol=1e-13)):
            return False
    return True


def _round_trip(objective: Objective) -> bool:
    known: Any = AnyObjective if type(objective) in MAKEUPS else type(objective)
    text = objective.model_dump_json()
    back = TypeAdapter(known).validate_python(json.loads(text))
    return back == objective and type(back) is type(objective) and bool(back.model_dump_json() == text)


def _metrics(objective: Objective) -> bool:
    """Those of the loss, and those of a KL that has weights of its own."""
    whole, logp = next(_drawn(objective))
    for batch in (whole, _selected(objective, whole)):
        terms = objective.loss(outputs(logp, batch.value), batch)
        metrics = {**terms.metrics, **terms.kl}
        if unknown(metrics) or any(value.requires_grad for value in metrics.values()):
            return False
    return True


LAWS: Mapping[str, Callable[[Objective], bool]] = {
    "parts add up to the whole in loss, metrics and gradient": _parts,
    "rows alone, without packing or padding, add up to the whole": _packed,
    "the order of rows and groups changes nothing": _order,
    "masked tokens carry no gradient and change nothing": _masked,
    "rows without a score carry no gradient and their reward changes nothing": _unscored,
    "a row that is not live has exactly zero gradient": _asleep,
    "zero advantage and zero KL give zero gradient": _calm,
    "on the first pass the unnormalised KLs to the sampler, and Jeffreys', have exactly zero gradient": _first_step,
    "on the first pass old is now": _first_is_now,
    "a KL that a selector leaves on all tokens is, in value and gradient, that of all tokens": _kl_of_all,
    "settings survive a JSON round trip": _round_trip,
    "metrics stand in the glossary and carry no gradient": _metrics,
}
"""Each law, said as a sentence."""
