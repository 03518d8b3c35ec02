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
    """Rows by their number in the logs, ascending; `prompts` numbers the prompt of each, by what it asks."""

    rows: NDArray[np.int64]
    prompts: NDArray[np.int64]


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
    _, prompts = np.unique(np.frombuffer(counted.prompts, np.int64)[rows], return_inverse=True)
    return Drawn(rows, prompts)
