"""Choices whose gain comes later: what `update` will need of each, by a ticket, in arrays that can be saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from klimb.bandits.base import Bandit, forgive, owe, repaid
from klimb.bandits.state import Matrix, State, Vector
from klimb.errors import KlimbError


@dataclass(frozen=True)
class Owed:
    """The open choices, oldest first: ticket, arm, the probability it had, and the context it was chosen in."""

    ticket: NDArray[np.int64]
    arm: NDArray[np.int64]
    chance: Vector
    context: Matrix


def nothing_owed(dimension: int) -> Owed:
    """No open choice; contexts will have `dimension` numbers."""
    return Owed(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, dimension)))


def lend(bandit: Bandit, state: State, owed: Owed, ticket: int, arm: int, context: Vector) -> tuple[State, Owed]:
    """Opens a choice under a ticket. Raises KlimbError where that ticket is open already."""
    if ticket in owed.ticket:
        raise KlimbError(f"a new choice with ticket {ticket}", "one with that ticket is open", "settle it first")
    longer = Owed(
        np.append(owed.ticket, np.int64(ticket)),
        np.append(owed.arm, np.int64(arm)),
        np.append(owed.chance, bandit.chance(state, arm)),
        np.vstack([owed.context, context]),
    )
    return owe(state, arm), longer


def settle(bandit: Bandit, state: State, owed: Owed, ticket: int, gain: float | None) -> tuple[State, Owed]:
    """Closes a choice with its gain, in any order; without a gain nothing is learned. Raises KlimbError if not open."""
    if ticket not in owed.ticket:
        raise KlimbError(
            f"the choice with ticket {ticket}", f"open: {owed.ticket.tolist()}", "lend it first, settle once"
        )
    found, left = int(np.argmax(owed.ticket == ticket)), owed.ticket != ticket
    arm = int(owed.arm[found])
    shorter = Owed(owed.ticket[left], owed.arm[left], owed.chance[left], owed.context[left])
    if gain is None:
        return forgive(state, arm), shorter
    state = repaid(state, arm)
    return bandit.update(state, arm, gain, owed.context[found], float(owed.chance[found])), shorter
