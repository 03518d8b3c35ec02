"""`klimb study temperatures`: a grid of decoding temperatures as a table, JSON, SVG and PNG."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.cli.places import place
from klimb.errors import KlimbError, RunError, SettingsError

if TYPE_CHECKING:
    from klimb.compare.temperatures import Cell, Grid

HEAD = "| above | up to | accuracy | tokens an answer | truncated | tokens above | entropy |\n|" + 7 * " ---: |"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose answers, to which problems."""

    target: str
    words: Sequence[str]
    recipe: str | None = None
    step: int | None = None


def sides(high: str, low: str, threshold: float) -> Grid:
    """The grid of two lists of temperatures in words. Raises SettingsError with all that is no temperature."""
    from klimb.compare.temperatures import Grid

    found, faults = list[list[float]](), list[KlimbError]()
    for name, words in (("high", high), ("low", low)):
        numbers, wrong = _numbers(words)
        found.append(numbers)
        if wrong or not numbers:
            said = f"{', '.join(map(repr, wrong)) or 'nothing'} among them"
            faults.append(KlimbError(f"--{name} {words}", said, "numbers from 0 to 10, each once, as 0.5,1,2"))
    if faults:
        raise SettingsError(faults)
    return Grid(found[0], found[1], threshold)


def temperatures(wanted: Wanted, grid: Grid, out: Path) -> None:
    """Prints a line for each pair as it is measured, and writes the grid into `out`. Raises KlimbError."""
    from klimb.atomic import write_atomic
    from klimb.cli.evaluating import settings_of
    from klimb.compare import drawn
    from klimb.compare.temperatures import cells
    from klimb.config import dump

    where = place(wanted.target, wanted.step)
    recipe = settings_of(where, wanted.words, wanted.recipe)
    for note in where.notes:
        print(f"klimb: {note}", file=sys.stderr)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"write the grid into {out}", str(error), "another --out") from error
    print(HEAD)
    done: list[Cell] = []
    for cell in cells(recipe, grid, step=where.step):
        print(_line(cell), flush=True)
        done.append(cell)
    held = {"model": where.model, "step": where.step, "settings": dump(recipe), "cells": [one.plain() for one in done]}
    write_atomic(out / "temperatures.json", json.dumps(held, indent=1, allow_nan=False) + "\n")
    for file in (out / "temperatures.json", *drawn.write(done, out)):
        print(file)


def _numbers(words: str) -> tuple[list[float], list[str]]:
    """The temperatures, and what is none or said twice."""
    numbers, wrong = list[float](), list[str]()
    for word in words.split(","):
        try:
            value = float(word)
        except ValueError:
            wrong.append(word)
            continue
        if 0 <= value <= 10 and value not in numbers:
            numbers.append(value)
        else:
            wrong.append(word)
    return numbers, wrong


def _line(cell: Cell) -> str:
    """A row of the table."""
    found, share = cell.found, cell.found.accuracy
    right = "not scored"
    if share is not None:
        right = f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}) of {share.n}"
    pair = f"| {cell.forking.high:g} | {cell.forking.low:g} | {right} | {found.length:.1f} |"
    return f"{pair} {100 * found.truncated:.1f} % | {100 * cell.above:.1f} % | {cell.entropy:.3f} |"
