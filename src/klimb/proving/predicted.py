"""The expected gradient that a makeup implies: NumPy loops over every batch, sharing no line with the objectives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from klimb.proving.credits import Numbers, credited, estimate
from klimb.proving.makeup import Makeup, Pull
from klimb.proving.policy import Parameters
from klimb.proving.worlds import World


@dataclass(frozen=True, slots=True)
class Prediction:
    """A direction in parameters, and whether any sample's ratio lay outside the clip (or above the cap)."""

    gradient: Parameters
    outside: bool


def predicted(stated: Makeup, world: World) -> Prediction:
    """sum over batches, rows and tokens of probability x weight x coefficient x grad log pi."""
    tables = [x.numpy() for x in (world.policy.logp(world.theta), world.old_logp, world.ref_logp)]
    places = [world.policy.places(answer).numpy() for answer in range(len(world.policy.answers))]
    total, outside = np.zeros_like(tables[0]), False
    for probability, drawn in world.outcomes:
        lengths = [len(world.policy.answers[answer]) for _, answer in drawn]
        advantages = credited(stated, world, drawn)
        for (prompt, answer), length, advantage in zip(drawn, lengths, advantages, strict=True):
            at = places[answer]
            now, old, ref = (table[prompt, at] for table in tables)
            share = probability * _share(stated, lengths, length)
            felt, out = _coefficients(stated, advantage, now, old, ref)
            total[prompt, at] += share * felt
            outside = outside or out
    theta = world.theta.clone().requires_grad_()
    surface = (world.policy.logp(theta) * torch.from_numpy(total)).sum()
    return Prediction(torch.autograd.grad(surface, theta)[0], outside)


def _share(stated: Makeup, lengths: list[int], length: int) -> float:
    """The weight of one token of a row."""
    if stated.weights == "token":
        return 1 / sum(lengths)
    return 1 / len(lengths) / (length if stated.weights == "row" else float(stated.weights))


def _coefficients(stated: Makeup, advantage: Numbers, now: Numbers, old: Numbers, ref: Numbers) -> tuple[Numbers, bool]:
    """What multiplies weight x grad log pi at each token; and whether a ratio left the trusted interval."""
    length = len(now)
    if stated.level == "sequence":  # each token of the row carries the whole row's loss
        now, old, ref = (np.array([x.sum()]) for x in (now, old, ref))
        advantage = advantage[:1]
    gap = now - old
    w = np.exp(gap.mean(keepdims=True) if stated.level == "mean" else gap)
    pull = stated.pull if stated.pull and not stated.pull.rewarded else None
    kl = _force(pull, np.exp(gap), now, old if pull.reference == "old" else ref, old) if pull else np.zeros(1)
    inside = bool(pull and pull.place == "clip")
    felt = w * advantage + (kl if inside else 0.0)
    sign = advantage if stated.by_advantage else felt
    low, high, c = stated.clip
    live = np.where(sign >= 0, w < 1 + high, (w > 1 - low) & (w < c))
    held = np.minimum(w, stated.cap)
    if stated.bounds is not None:
        held = np.where(advantage >= 0, np.clip(w, *stated.bounds[0]), np.clip(w, *stated.bounds[1]))
    out = np.where(live, felt * held / w, 0.0) + (0.0 if inside else kl)
    if stated.level == "sequence":
        out = out * length
    return np.broadcast_to(out, (length,)), bool((~live).any() or ((held != w) & (advantage != 0)).any())


def _force(pull: Pull, w: Numbers, now: Numbers, toward: Numbers, old: Numbers) -> Numbers:
    """beta times what pulls log pi up: minus the derivative of the divergence's sample."""
    gap, u = now - toward, np.exp(toward - old)
    if pull.kind in ("k1", "k2", "k3"):
        value, slope = estimate(pull.kind, gap)
        weight = 1.0 if pull.weighted == "none" else w
        return -pull.beta * (weight * slope + (w * value if pull.weighted == "attached" else 0.0))
    force: Numbers = {
        "fkl": u,
        "rkl": -w * (gap + 1),
        "ufkl": u - w,
        "urkl": -w * gap,
        "jeffreys": u - w * (gap + 1),
    }[pull.kind]
    return pull.beta * force
