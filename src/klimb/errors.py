"""The errors: one tree; each says what was asked, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 100
"""Of how many things at fault the names are told."""


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


class KlimbError(Exception):
    """A failure that a person can act on.

    `asked`: what was wanted. `found`: what stood there instead. `cure`: what to do about it.
    """

    exit_code = 1

    def __init__(self, asked: str, found: str = "", cure: str = "") -> None:
        self.asked, self.found, self.cure = asked, found, cure
        super().__init__(self.line())

    def line(self) -> str:
        """The three parts on one line, those that are there."""
        parts = [self.asked]
        if self.found:
            parts.append(f"found: {self.found}")
        if self.cure:
            parts.append(f"try: {self.cure}")
        return "; ".join(parts)


class SettingsError(KlimbError):
    """Settings that cannot be run. `faults` holds every one that was found, not only the first."""

    exit_code = 2

    def __init__(self, faults: list[KlimbError]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(fault.line() for fault in faults))


class DataError(KlimbError):
    """A data file or row that cannot be used; says which row and field."""

    exit_code = 3


class ModelError(KlimbError):
    """A model that cannot be found, loaded or used."""

    exit_code = 4


class GenerationError(KlimbError):
    """A generator that did not answer, or answered something that is not a completion."""

    exit_code = 5


class RewardError(KlimbError):
    """A reward source that cannot be set up, or too many scores that failed."""

    exit_code = 6


class CheckpointError(KlimbError):
    """A checkpoint that is missing, broken, or belongs to another run."""

    exit_code = 7


class RunError(KlimbError):
    """A run directory that cannot be used: taken, changed, or not a run."""

    exit_code = 8


class Diverged(KlimbError):
    """Too many optimizer steps in a row would not have been finite."""

    exit_code = 9


class Alerted(KlimbError):
    """An alert of the recipe asked the run to stop; everything was saved."""

    exit_code = 10


class Interrupted(KlimbError):
    """A signal asked the run to stop; everything was saved. `exit_code` is 128 + the signal's number."""

    def __init__(self, signal: int, where: str) -> None:
        super().__init__(f"stopped by signal {signal}", f"saved in {where}", "run the same command again to go on")
        self.exit_code = 128 + signal
