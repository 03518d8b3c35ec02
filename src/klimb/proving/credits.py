"""The advantages that a makeup implies: NumPy loops over one batch, sharing no line with the objectives."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from klimb.proving.makeup import Makeup
from klimb.proving.worlds import EARLIER, Drawn, World

Numbers = NDArray[np.float64]


def credited(stated: Makeup, world: World, drawn: Drawn) -> list[Numbers]:
    """Each row's tokens: the reward, less what is taken off it, less the baseline, over the spread."""
    raw = np.array([float(world.reward[prompt, answer]) for prompt, answer in drawn])
    lengths = np.array([len(world.policy.answers[answer]) for _, answer in drawn])
    if world.given:
        return [np.full(length, value) for length, value in zip(lengths, raw, strict=True)]
    if stated.baseline.startswith("critic"):
        rows = [_estimated(stated, world, *place, reward) for place, reward in zip(drawn, raw, strict=True)]
        return _whitened(rows) if stated.baseline == "critic white" else rows
    charges = [_charges(stated, world, *place) for place in drawn]
    if stated.pull and stated.pull.place == "answer":
        raw = raw - np.array([charge.sum() for charge in charges])
    limit, buffer, penalty = stated.punish
    if buffer:
        raw = raw - penalty * np.clip((lengths - limit + buffer) / buffer, 0, 1)
    rows = [np.full(length, value) for length, value in zip(lengths, _compared(stated, raw, drawn), strict=True)]
    if stated.pull and stated.pull.place == "to go":
        rows = [row - charge[::-1].cumsum()[::-1] for row, charge in zip(rows, charges, strict=True)]
    return _whitened(rows) if stated.baseline in ("batch white", "group white") else rows


def _charges(stated: Makeup, world: World, prompt: int, answer: int) -> Numbers:
    """beta times the estimate of log(old / ref) of each token."""
    pull, at = stated.pull, world.policy.places(answer)
    if pull is None or not pull.rewarded:
        return np.zeros(len(at))
    x = (world.old_logp - world.ref_logp)[prompt, at].numpy()
    return pull.beta * estimate(pull.kind, x)[0]


def estimate(kind: str, x: Numbers) -> tuple[Numbers, Numbers]:
    """The estimator of KL(pi||ref) at x = log(pi / ref), and its slope."""
    return {"k1": (x, np.ones_like(x)), "k2": (x * x / 2, x), "k3": (np.exp(-x) - 1 + x, 1 - np.exp(-x))}[kind]


def _estimated(stated: Makeup, world: World, prompt: int, answer: int, reward: float) -> Numbers:
    """Each token's sum of discounted surprises of the critic, term by term; each token pays its own charge."""
    values = world.value[prompt, world.policy.places(answer)].tolist()
    gamma, lam = stated.discount
    following = [*values[1:], 0.0]
    paid = np.array([0.0] * (len(values) - 1) + [reward]) - _charges(stated, world, prompt, answer)
    surprise = [r + gamma * after - v for r, after, v in zip(paid, following, values, strict=True)]
    return np.array([sum((gamma * lam) ** k * s for k, s in enumerate(surprise[t:])) for t in range(len(values))])


def _compared(stated: Makeup, raw: Numbers, drawn: Drawn) -> Numbers:
    """Each row's reward against its baseline."""
    if stated.baseline in ("none", "batch white"):  # whitening takes the mean off
        return raw
    if stated.baseline == "moving":
        return raw - EARLIER
    prompts = np.array([0 if stated.baseline == "batch" else prompt for prompt, _ in drawn])
    return np.array([_centred(stated, raw, prompts == prompt, row) for row, prompt in enumerate(prompts)])


def _centred(stated: Makeup, raw: Numbers, mine: NDArray[np.bool_], row: int) -> float:
    raw = raw - raw[mine].min()  # so that equal rewards differ from their mean by exactly nothing
    group = raw[mine]
    if stated.baseline == "others":
        return float(raw[row] - (group.sum() - raw[row]) / (len(group) - 1))
    centred = float(raw[row] - group.mean())
    return centred / (float(group.std(ddof=1)) + 1e-6) if stated.baseline == "group z" else centred


def _whitened(rows: list[Numbers]) -> list[Numbers]:
    every = np.concatenate(rows)
    spread = math.sqrt(max(float(every.var()), 1e-8))
    return [(row - every.mean()) / spread for row in rows]
