"""The expected gradient that a makeup implies: NumPy loops over every batch, sharing no line with the objectives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from klimb.proving.makeup import Makeup, Pull
from klimb.proving.policy import Parameters
from klimb.proving.worlds import Drawn, World

Numbers = NDArray[np.float64]


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
        advantages = _advantages(stated, world, drawn, lengths)
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


def _advantages(stated: Makeup, world: World, drawn: Drawn, lengths: list[int]) -> list[float]:
    """Each row's reward, less the punishment of its length, less the baseline, over the spread."""
    raw = np.array([float(world.reward[prompt, answer]) for prompt, answer in drawn])
    if world.given:
        return [float(value) for value in raw]
    limit, buffer, penalty = stated.punish
    if buffer:
        raw = raw - penalty * np.clip((np.array(lengths) - limit + buffer) / buffer, 0, 1)
    prompts = np.array([prompt for prompt, _ in drawn])
    if stated.baseline in ("batch", "batch white"):
        prompts = np.zeros_like(prompts)
    if stated.baseline == "none":
        return [float(value) for value in raw]
    out = np.array([_centred(stated, raw, prompts == prompt, row) for row, prompt in enumerate(prompts)])
    if stated.baseline in ("batch white", "group white"):
        every = np.repeat(raw if stated.baseline == "batch white" else out, lengths)
        middle = every.mean()
        rows = raw if stated.baseline == "batch white" else out
        out = (rows - middle) / math.sqrt(max(float(every.var()), 1e-8))
    return [float(value) for value in out]


def _centred(stated: Makeup, raw: Numbers, mine: NDArray[np.bool_], row: int) -> float:
    group = raw[mine]
    if stated.baseline == "others":
        return float(raw[row] - (group.sum() - raw[row]) / (len(group) - 1))
    centred = float(raw[row] - group.mean())
    return centred / (float(group.std(ddof=1)) + 1e-6) if stated.baseline == "group z" else centred


def _share(stated: Makeup, lengths: list[int], length: int) -> float:
    """The weight of one token of a row."""
    if stated.weights == "token":
        return 1 / sum(lengths)
    return 1 / len(lengths) / (length if stated.weights == "row" else float(stated.weights))


def _coefficients(stated: Makeup, advantage: float, now: Numbers, old: Numbers, ref: Numbers) -> tuple[Numbers, bool]:
    """What multiplies weight x grad log pi at each token; and whether a ratio left the trusted interval."""
    length = len(now)
    gap = now - old
    if stated.level == "sequence":  # each token of the row carries the whole row's loss
        gap, now, old, ref = (np.array([x.sum()]) for x in (gap, now, old, ref))
    elif stated.level == "mean":
        gap = np.array([gap.mean()])
    w = np.exp(gap)
    pull = stated.pull
    toward = old if pull and pull.reference == "old" else ref
    felt = np.minimum(w, stated.cap) * advantage
    kl = _force(pull, w, now, toward, old) if pull else np.zeros(1)
    inside = bool(pull and pull.inside)
    sign = felt + kl if inside else felt
    low, high, c = stated.clip
    live = np.where(sign >= 0, w < 1 + high, (w > 1 - low) & (w < c))
    out = np.where(live, sign, 0.0) + (0.0 if inside else kl)
    if stated.level == "sequence":
        out = out * length
    return np.broadcast_to(out, (length,)), bool((~live).any() or (w > stated.cap).any())


def _force(pull: Pull, w: Numbers, now: Numbers, toward: Numbers, old: Numbers) -> Numbers:
    """beta times what pulls log pi up: minus the derivative of the divergence's sample."""
    u, gap = np.exp(toward - old), now - toward
    force = {
        "k1": -np.ones_like(w),
        "k2": -gap,
        "k3": np.exp(-gap) - 1,
        "fkl": u,
        "rkl": -w * (gap + 1),
        "ufkl": u - w,
        "urkl": -w * gap,
    }[pull.kind]
    return pull.beta * force
