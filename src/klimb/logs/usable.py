"""Which rows of logs an objective can learn from, by the reasons of `sources.fitness.unfit`, for many rows at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from klimb.sources.fitness import REASONS

Marks = NDArray[np.uint16]
Flags = NDArray[np.bool_]
ASKED, ANSWERED, SCORED, LOGPS, GUESSED, KNOWN, CUT, GREEDY, AGED = (1 << bit for bit in range(9))


@dataclass(frozen=True, slots=True)
class Fit:
    """The groups of logs that a family of objectives can learn from.

    `left` counts the groups that are left out, by the name of the reason. `scored` says of each row of the logs whether
    it has a reward and stands in a group that is fit.
    """

    groups: int
    scored: Flags
    left: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """How many rows there are to learn from."""
        return int(self.scored.sum())

    def why(self) -> str:
        """In words: what is left out and why; empty where nothing is."""
        out = [f"{count:,} of the groups left out: each {REASONS[name][0]}" for name, count in self.left.most_common(3)]
        return "; ".join(out)


def marks(table: pa.Table) -> Marks:
    """What each row of a rollouts table has, as bits."""

    def longer(name: str) -> Flags:
        return np.asarray(pc.list_value_length(table.column(name)).to_numpy() > 0)

    def there(name: str) -> Flags:
        return np.asarray(pc.is_valid(table.column(name)).to_numpy())

    def holds(condition: Any) -> Flags:
        return np.asarray(pc.fill_null(condition, False).to_numpy())

    cut = pc.or_kleene(pc.less(table.column("top_p"), 1.0), pc.greater(table.column("top_k"), 0))
    bits = {
        ASKED: longer("prompt_tokens"),
        ANSWERED: longer("tokens"),
        SCORED: there("reward"),
        LOGPS: longer("logps"),
        GUESSED: there("estimated"),
        KNOWN: there("temperature"),
        CUT: holds(cut) | holds(pc.greater(pc.list_value_length(table.column("forking")), 0)),
        GREEDY: holds(pc.equal(table.column("temperature"), 0.0)),
        AGED: there("age"),
    }
    found = np.zeros(table.num_rows, np.uint16)
    for bit, holding in bits.items():
        found |= np.where(holding, np.uint16(bit), np.uint16(0))
    return found


def fit(found: Marks, starts: NDArray[np.int64], *, weighted: bool) -> Fit:
    """The groups that start at the rows `starts`, judged for objectives that are weighted by importance, or not.

    `source.estimated` is taken for false, and one scored answer to a prompt for enough: the defaults of a run.
    """
    some, every = np.bitwise_or.reduceat(found, starts), np.bitwise_and.reduceat(found, starts)
    checks = {
        "replayed": some & AGED > 0,
        "no tokens": every & (ASKED | ANSWERED) != ASKED | ANSWERED,
        "no score": some & SCORED == 0,
    }
    if weighted:
        checks |= {
            "no log-probs": every & LOGPS == 0,
            "estimated": some & GUESSED > 0,
            "unknown sampling": every & KNOWN == 0,
            "truncated": some & CUT > 0,
            "greedy": some & GREEDY > 0,
        }
    names = list(checks)
    first = np.select(list(checks.values()), list(range(len(names))), default=len(names))
    left = Counter({name: int(count) for name, count in zip(names, np.bincount(first), strict=False) if count})
    good = np.repeat(first == len(names), np.diff(starts, append=len(found)))
    return Fit(int((first == len(names)).sum()), good & (found & SCORED > 0), left)
