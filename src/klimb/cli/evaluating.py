"""`klimb evaluate`: held-out accuracy of a run's checkpoint, or of any model on a recipe's problems."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from klimb.cli import recipes
from klimb.cli.places import Place, place
from klimb.errors import KlimbError, SettingsError

if TYPE_CHECKING:
    from klimb.evaluation.base import Evaluation, Share
    from klimb.recipe import Recipe


def evaluate(
    target: str, words: Sequence[str], *, recipe: str | None = None, step: int | None = None, as_json: bool = False
) -> None:
    """Asks the held-out problems once and prints what was found. Raises KlimbError."""
    where = place(target, step)
    settings = settings_of(where, words, recipe)
    for note in where.notes:
        print(f"klimb: {note}", file=sys.stderr)
    from klimb.examine import measure

    found = measure(settings, step=where.step, before=where.before)
    if as_json:
        print(json.dumps({"model": where.model, "step": where.step, **found.metrics()}))
    else:
        print("\n".join(_lines(where, found)))


def settings_of(where: Place, words: Sequence[str], recipe: str | None) -> Recipe:
    """The recipe asked for, else the run's own, on the model that the target names, with the words over it.

    A chat template that writes the date is told the run's, whichever recipe asks.
    """
    from klimb.config import apply_words, dump, resolve
    from klimb.recipe import Recipe

    if recipe is not None:
        base = dump(recipes.load(recipe))
    elif where.recipe is not None:
        base = dump(where.recipe)
    else:
        raise SettingsError(
            [KlimbError(f"to evaluate {where.model} there must be problems", "no recipe", "--recipe RECIPE")]
        )
    if where.recipe is not None:
        base["model"]["date"] = base["model"]["date"] or dump(where.recipe)["model"]["date"]
    base["model"] |= {"name": where.model, "lora": None}  # a saved model has its adapter in its weights
    return resolve(Recipe, apply_words(base, words, Recipe))


def _lines(where: Place, found: Evaluation) -> list[str]:
    rows: list[tuple[str, Any]] = [("model", where.model)]
    if where.recipe is not None:
        rows.append(("step", where.step))
    rows += [("accuracy", _share(found.accuracy)), ("format", _share(found.format)), ("win rate", _won(found.won))]
    rows += [("length", f"{found.length:.1f} tokens"), ("truncated", f"{100 * found.truncated:.1f} %")]
    if found.failed:
        rows.append(("failed", f"{found.failed} answers could not be scored"))
    return [f"{name:<10} {value}" for name, value in rows if value is not None]


def _won(won: Mapping[str, float]) -> str | None:
    """The share won against the answers from before training, and how many answers nobody could judge."""
    if not won:
        return None
    failed = f"; {won['eval/win_failed']:.0f} could not be judged" if won["eval/win_failed"] else ""
    if "eval/win" not in won:
        return f"not known{failed}"
    return _shown(*(won[f"eval/win{part}"] for part in ("", "_low", "_high", "_n"))) + failed


def _share(share: Share | None) -> str | None:
    return None if share is None else _shown(share.value, share.low, share.high, share.n)


def _shown(value: float, low: float, high: float, n: float) -> str:
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f}, 95 %) of {n:.0f}"
