"""Every random draw is a pure function of names and numbers: never of timing, order or worker count (design D8)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on nothing else."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def draw_seed(seed: int, step: int, prompt: str, k: int) -> int:
    """The seed of completion `k` of the prompt with id `prompt` at optimizer step `step`."""
    return seed_of("draw", seed, step, prompt, k)


def logged_seed(prompt: str, version: str, k: int, text: str) -> int:
    """What stands for the seed of answer `k` in a log that says none: it names the answer, in [0, 2^62)."""
    return seed_of("import", prompt, version, k, text) % 2**62


def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """`count` uniform numbers in [0, 1); the first n are the same whatever the count."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which `count` things are visited in pass `epoch`."""
    return np.random.Generator(np.random.Philox(key=seed_of("order", seed, epoch))).permutation(count)
