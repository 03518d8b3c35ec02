"""Which source a bandit chose for the prompts of each side, at the end of its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairing import settings, weights

from klimb import rollouts

LATE = 3
"""The last one in so many of a run's steps is its end."""


def arms(asked: dict[str, Any]) -> list[str]:
    """The names of the sources that a run with these settings may learn from."""
    return [name for name, weight in weights(asked).items() if weight != 0]


def chosen(run: Path) -> Counter[tuple[str, str]]:
    """(Side, source) -> the prompts of that side that the source was chosen for in the last third of a run's steps."""
    asked, found = settings(run), Counter[tuple[str, str]]()
    files = sorted((run / "rollouts").glob("*.parquet"))
    for file in files[-max(1, len(files) // LATE) :]:
        for group in rollouts.read(file):
            side = str(group.prompt.metadata.get(asked["evaluation"]["by"], "")) or "all"
            found.update((side, name) for name in arms(asked) if name in group.rollouts[0].scores)
    return found


def table(runs: Mapping[str, Sequence[Path]]) -> str:
    """A line for each side of each arm that chooses; '' where none does."""
    some = {arm: each for arm, each in runs.items() if settings(each[0])["combining"]["type"] == "selected"}
    if not some:
        return ""
    names = list(dict.fromkeys(name for each in some.values() for name in arms(settings(each[0]))))
    lines = [f"| arm | side | prompts of the last third | {' | '.join(names)} |", "|" + (3 + len(names)) * " --- |"]
    for arm, each in some.items():
        found = sum((chosen(run) for run in each), Counter[tuple[str, str]]())
        for side in sorted({side for side, _ in found}):
            counts = [found[side, name] for name in names]
            lines.append(f"| {' | '.join([arm, side, str(sum(counts)), *map(str, counts)])} |")
    return "\n".join(lines)
