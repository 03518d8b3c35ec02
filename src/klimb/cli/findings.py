"""One thing that the doctor found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from klimb.errors import KlimbError

BAD: Literal["bad"] = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """`bad` keeps klimb from working; a `note` costs speed or a feature."""

    name: str
    state: Literal["ok", "note", "bad"]
    text: str
    cure: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


Probe = Callable[[], Iterator[Finding]]


def safely(name: str, probe: Probe) -> Iterator[Finding]:
    """What a probe finds; one that fails is a finding of its own."""
    try:
        yield from probe()
    except KlimbError as error:
        yield Finding(name, BAD, f"{error.asked}" + (f"; found: {error.found}" if error.found else ""), error.cure)
    except Exception as error:  # noqa: BLE001 a doctor goes on with the next question
        yield Finding(name, BAD, f"could not be checked: {type(error).__name__}: {error}"[:300])
