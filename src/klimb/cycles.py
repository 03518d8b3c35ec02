"""Python's search for reference cycles, kept out of the way of a command's start and end.

Modules are a million objects that stay: to look through them takes a sixth of the time to import them, and two seconds
more at the end of the process, on a slow machine.
"""

from __future__ import annotations

import gc

RARELY = 100_000
"""New objects between two searches while modules are imported."""
USUAL = gc.get_threshold()


def search_rarely() -> None:
    """From now on, until `search_as_usual`."""
    gc.set_threshold(RARELY, *USUAL[1:])


def search_as_usual() -> None:
    """Ends `search_rarely`; who has settings of their own keeps them."""
    if gc.get_threshold()[0] == RARELY:
        gc.set_threshold(*USUAL)


def search_no_more() -> None:
    """What is there now is not looked through again: before a process ends."""
    gc.freeze()
