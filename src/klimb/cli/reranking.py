"""`klimb rewards best-of`: the best of n answers by the rewards, for each n."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.cli.evaluating import settings_of
from klimb.cli.places import place
from klimb.cli.text import printable

if TYPE_CHECKING:
    from klimb.evaluation.best_of import BestOf, Row


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    n: int
    recipe: str | None
    step: int | None
    learn: bool


def best_of(target: str, words: Sequence[str], wanted: Wanted, as_json: Path | None = None) -> None:
    """Prints the table over n, and writes all of it as JSON. Raises KlimbError."""
    from klimb.atomic import write_atomic
    from klimb.records import pretty
    from klimb.reranking import best_of as measured

    where = place(target, wanted.step)
    settings = settings_of(where, words, wanted.recipe)
    for note in where.notes:
        print(f"klimb: {note}", file=sys.stderr)
    own = where.recipe if wanted.recipe is None else None
    found = measured(
        settings,
        wanted.n,
        step=where.step,
        initial=own.model if own else None,
        kept=where.combining if own else None,
        learn=wanted.learn,
    )
    if as_json:
        write_atomic(as_json, pretty({"model": where.model, "step": where.step, **found.record()}))
    print(printable("\n".join(lines_of(found))))


def lines_of(found: BestOf) -> list[str]:
    """The table in columns."""
    lines = [f"{'n':>4}  {'KL':>6}  {'prompts':>7}  {'reward':>8}  {'score':>8}  correct (95 %)            possible"]
    lines += [_line(row) for row in found.rows]
    if not found.rows:
        lines.append("no answer has both a reward and a verdict")
    if found.left_out:
        lines.append(f"{found.left_out} answers had no reward or no verdict and are left out")
    lines.append("asked about prompts: " + ", ".join(f"{name} {count}" for name, count in found.asked.items()))
    if found.itself:
        lines.append("the reward contains the source that says what is correct: this does not say whether it is gamed")
    return lines


def _line(row: Row) -> str:
    correct = f"{100 * row.correct:.1f} %  ({100 * row.low:.1f} to {100 * row.high:.1f})"
    return (
        f"{row.n:>4}  {row.kl:>6.3f}  {row.prompts:>7}  {row.reward:>8.4g}  {row.score:>8.4g}  "
        f"{correct:<25} {100 * row.possible:.1f} %"
    )
