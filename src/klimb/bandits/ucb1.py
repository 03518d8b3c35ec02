"""UCB1 (Auer, Cesa-Bianchi and Fischer 2002), and with a discount D-UCB (Garivier and Moulines, 0805.3415)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.base import Scorer
from klimb.bandits.state import FORGOTTEN, State, Vector


class UCB1(Scorer):
    """argmax_k mean_k + scale sqrt(2 ln n / n_k), n_k being the gains of arm k, those still owed among them."""

    type: Literal["ucb1"] = "ucb1"
    scale: Annotated[float, Field(ge=0.0)] = 1.0
    """The range of the gains."""

    def scores(self, state: State, context: Vector, rng: np.random.Generator) -> Vector:
        tries = state.pulls + state.owed
        tried = tries > FORGOTTEN
        share = 2 * np.log(max(float(tries.sum()), 1.0)) / np.where(tried, tries, 1.0)
        return np.where(tried, state.mean() + self.scale * np.sqrt(share), np.inf)
