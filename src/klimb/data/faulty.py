"""What is wrong with the rows of a data file: all of it counted, the first ten shown, each with its cure."""

from __future__ import annotations

from klimb.errors import DataError

SHOWN = 10


class Unfit(Exception):
    """A value that cannot be used: what it is, and what to do about it."""

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found)
        self.found, self.cure = found, cure


class Faults:
    """Collects the faults of one data source."""

    def __init__(self) -> None:
        self._shown: list[tuple[str, str, str]] = []
        self._count = 0

    def add(self, where: str, found: str, cure: str) -> None:
        """One fault. `where` names the file, the row and the field."""
        self._count += 1
        if len(self._shown) < SHOWN:
            self._shown.append((where, found, cure))

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def lines(self) -> list[str]:
        """The first ones, each with its cure."""
        return [f"{where}: {found} (try: {cure})" for where, found, cure in self._shown]

    def check(self) -> None:
        """Raises DataError if there were any."""
        if not self._count:
            return
        if self._count == 1:
            raise DataError(*self._shown[0])
        lines = self.lines()
        if (more := self._count - len(lines)) > 0:
            lines.append(f"and {more} more")
        found = f"{self._count} faults:\n  " + "\n  ".join(lines)
        raise DataError("data of which every row can be used", found + "\n", "mend these rows, or take them out")


def show(value: object, most: int = 60) -> str:
    """A value as a person may safely see it on a terminal: one line, control characters escaped, cut short."""
    text = repr(value[: 2 * most]) if isinstance(value, str | bytes) else repr(value)
    return text if len(text) <= most else text[:most] + "..."
