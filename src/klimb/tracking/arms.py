"""Which source a bandit chose for which prompts: by a column of the data, or by the right answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from klimb.types import Group

MOST = 12
"""More kinds of prompts than this are told as one."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The prompts of one kind: how many, and the share of them whose reward each arm gave, in the arms' order."""

    kind: str
    prompts: int
    shares: tuple[float, ...]


def chosen(groups: Sequence[Group], arms: Sequence[str], by: str) -> list[Chosen]:
    """The choices for each kind of prompts, in the order of their names; groups scored by no arm or several left out.

    A kind is a value of the column `by`, or the right answer where no column is named.
    """
    named = [(_kind(group, by), asked) for group in groups if len(asked := _asked(group, arms)) == 1]
    kinds = sorted({kind for kind, _ in named})
    if len(kinds) > MOST or kinds == [""]:
        named, kinds = [(ALL, asked) for _, asked in named], [ALL]
    counts = {kind: Counter(asked[0] for one, asked in named if one == kind) for kind in kinds}
    return [
        Chosen(kind, count.total(), tuple(count[arm] / count.total() for arm in arms)) for kind, count in counts.items()
    ]


def _kind(group: Group, by: str) -> str:
    return str(group.prompt.metadata.get(by, "") if by else group.prompt.answer or "")


def _asked(group: Group, arms: Sequence[str]) -> list[str]:
    return [arm for arm in arms if any(arm in one.scores for one in group.rollouts)]
