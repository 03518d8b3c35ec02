"""Which rows of logs a policy is asked about: a random sample of those that importance weights can learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from klimb.logs.counting import Counted
from klimb.logs.usable import ANSWERED, ASKED, LOGPS, fit
from klimb.seeds import seed_of, uniforms


@dataclass(frozen=True, slots=True)
class Drawn:
    """Rows by their number in the logs, ascending; `prompts` numbers the prompt of each, by what it asks.

    `guesses` is a value of each row that its own reward has no part in: the mean reward of the other answers to its
    prompt; that of all other rows where there is none.
    """

    rows: NDArray[np.int64]
    prompts: NDArray[np.int64]
    guesses: NDArray[np.float64]


def draw(counted: Counted, most: int, seed: int) -> Drawn:
    """At most `most` rows, each with the same chance; where none is fit, of all that have tokens and log-probs.

    The first rows of a seed stay in the sample when `most` grows.
    """
    found = np.frombuffer(counted.marks, np.uint16)
    fits = fit(found, np.frombuffer(counted.starts, np.int64), weighted=True).scored
    all_three = ASKED | ANSWERED | LOGPS
    places = np.flatnonzero(fits if fits.any() else found & all_three == all_three)
    dice = uniforms(seed_of("inspect", seed), len(places))
    rows = np.sort(places[np.argsort(dice, kind="stable")[:most]])
    _, which = np.unique(np.frombuffer(counted.prompts, np.int64), return_inverse=True)
    return Drawn(rows, which[rows], _guesses(np.frombuffer(counted.rewards, np.float64), which)[rows])


def _guesses(rewards: NDArray[np.float64], which: NDArray[np.int64]) -> NDArray[np.float64]:
    known = ~np.isnan(rewards)
    own = np.where(known, rewards, 0.0)
    others = np.bincount(which, known)[which] - known
    near = np.bincount(which, own)[which] - own
    far = (own.sum() - own) / np.maximum(known.sum() - known, 1)
    return np.where(others > 0, near / np.maximum(others, 1), far)
