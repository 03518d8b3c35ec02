"""`klimb train`: the settings first, all faults at once; then the run, and what it brought."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.cli import recipes

if TYPE_CHECKING:
    from klimb.recipe import Recipe
    from klimb.run import RunResult

CALIBRATION = ("eval/reward_calibration_low", "eval/reward_calibration_high")


def train(name: str, words: Sequence[str], *, dry_run: bool = False, fork: str | None = None) -> None:
    """Trains by a recipe, or only shows what it would do. Raises KlimbError."""
    recipe = recipes.load(name, words)
    run = recipe.run or Path("runs") / recipes.find(name).stem
    if dry_run:
        print(described(recipe))
        return
    from klimb.run import train as train_run

    print(summary(train_run(recipe, run=run, fork=fork)))


def described(recipe: Recipe, strict: bool = True) -> str:
    """The resolved settings as YAML, and the batch arithmetic as comments below.

    Raises DataError where data cannot be read; where not `strict`, a comment says so.
    """
    from klimb.cli.arithmetic import arithmetic
    from klimb.config import dump
    from klimb.redact import redact
    from klimb.yamltext import write

    sums = "\n".join(f"# {line}" for line in arithmetic(recipe, strict))
    return f"{write(redact(dump(recipe)))}\n{sums}"


def summary(result: RunResult) -> str:
    """Held-out accuracy before and after, and where everything is."""
    lines = [f"{result.path}: {result.step} steps"]
    if result.before and result.after:
        lines += ["", f"{'held out':<12}{'before':>24}{'after':>24}"]
        lines += _row("accuracy", result, "eval/accuracy", ("eval/low", "eval/high"))
        lines += _row("preferred", result, "eval/implicit_accuracy", ("eval/implicit_low", "eval/implicit_high"))
        lines += _row("preferred", result, "eval/reward_accuracy", ("eval/reward_low", "eval/reward_high"))
        lines += _row("longer wins", result, "eval/longer_wins", None)
        lines += _row("words win", result, "eval/words_win", None)
        lines += _row("calibration", result, "eval/reward_calibration", CALIBRATION)
        lines += _ranged("KL to start", result, "eval/kl", " nats")
        lines += _row("nats a token", result, "eval/nll", None)
        lines += _ranged("mean score", result, "eval/score")
        lines += _won(result)
        lines += _row("format", result, "eval/format", ("eval/format_low", "eval/format_high"))
        lines += _row("length", result, "eval/length", None)
        lines.append("")
    if result.note:
        lines += [result.note, ""]
    lines += [f"report: {result.report}", f"model:  {result.model}"]
    return "\n".join(lines)


def _ranged(title: str, result: RunResult, name: str, unit: str = "") -> list[str]:
    """A number with its interval, where it was measured."""
    if name not in result.before or name not in result.after:
        return []
    sides = (result.before, result.after)
    cells = [f"{s[name]:.2f}{unit} ({s[f'{name}_low']:.2f} to {s[f'{name}_high']:.2f})" for s in sides]
    return [f"{title:<12}" + "".join(f"{cell:>28}" for cell in cells)]


def _won(result: RunResult) -> list[str]:
    """How often the answers are better than those from before training, against which there is nothing before."""
    if "eval/win" not in result.after:
        return []
    cell = _cell(result.after, "eval/win", ("eval/win_low", "eval/win_high"))
    return [f"{'win rate':<12}{'':>24}{cell:>24}"]


def _row(title: str, result: RunResult, name: str, interval: tuple[str, str] | None) -> list[str]:
    if name not in result.before or name not in result.after:
        return []
    cells = "".join(f"{_cell(side, name, interval):>24}" for side in (result.before, result.after))
    return [f"{title:<12}{cells}"]


def _cell(side: dict[str, float], name: str, interval: tuple[str, str] | None) -> str:
    """`37.1 % (31.2 to 43.4)`, or a plain number where there is no interval."""
    if interval is None:
        return f"{side[name]:.1f} tokens" if name == "eval/length" else f"{side[name]:.3f}"
    low, high = (side.get(bound) for bound in interval)
    around = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * side[name]:.1f} %{around}"
