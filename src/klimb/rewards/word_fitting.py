"""Fits a word model: logistic regression on labelled texts, Bradley-Terry on preference pairs; both convex."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from klimb.errors import DataError
from klimb.rewards.words import WordModel, grams
from klimb.seeds import seed_of

FOLDS = 5
ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its label, or a preferred text with the `other` one. `key` names its prompt: folds are of prompts."""

    key: str
    text: str
    label: bool = True
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """How to fit: loss = sum of log(1 + exp(-margin)) + |w|^2 / (2 strength), over n-grams of `least` texts or more.

    `first`: the model reads so many words of a text, for a policy whose answers are brief; None = all. The examples are
    to be cut there already.
    """

    strength: float = 1.0
    least: int = 2
    first: int | None = None


def fit(examples: Sequence[Example], how: Fit = Fit()) -> WordModel:
    """The model of all examples. Raises DataError where there is nothing to tell apart."""
    kind = _kind(examples)
    weights, bias = _solve([_row(one, kind) for one in examples], [one.label for one in examples], kind, how)
    return WordModel(kind, bias, weights, first=how.first)


def crossed(examples: Sequence[Example], how: Fit = Fit()) -> list[float]:
    """By how much each example is judged right, by the model of the other folds' prompts; 0 = not at all."""
    kind = _kind(examples)
    folds = [seed_of("fold", one.key) % FOLDS for one in examples]
    margins = [0.0] * len(examples)
    for fold in range(FOLDS):
        rest = [one for one, place in zip(examples, folds, strict=True) if place != fold]
        if not rest or _alike(rest, kind):
            continue
        model = fit(rest, how)
        for place, one in enumerate(examples):
            if folds[place] == fold:
                margins[place] = margin(model, one)
    return margins


def margin(model: WordModel, one: Example) -> float:
    """By how much a model judges an example right."""
    if one.other is not None:
        return model.score(one.text) - model.score(one.other)
    return model.score(one.text) if one.label else -model.score(one.text)


def _kind(examples: Sequence[Example]) -> Literal["labels", "pairs"]:
    kind: Literal["labels", "pairs"] = "labels" if examples and examples[0].other is None else "pairs"
    if any((one.other is None) != (kind == "labels") for one in examples):
        raise DataError("texts with labels, or pairs", "both in one fit", "fit one model to each")
    if not examples or _alike(examples, kind):
        raise DataError("examples of both kinds", f"{len(examples)} that are all alike", "give texts of both labels")
    return kind


def _alike(examples: Sequence[Example], kind: str) -> bool:
    return kind == "labels" and len({one.label for one in examples}) < 2


def _features(text: str) -> dict[str, float]:
    found = sorted(grams(text))
    return dict.fromkeys(found, 1 / math.sqrt(len(found))) if found else {}


def _row(one: Example, kind: str) -> dict[str, float]:
    row = _features(one.text)
    if kind == "pairs":
        assert one.other is not None
        for gram, value in _features(one.other).items():
            row[gram] = row.get(gram, 0.0) - value
    return row


def _solve(rows: list[dict[str, float]], labels: list[bool], kind: str, how: Fit) -> tuple[dict[str, float], float]:
    """The weights and the bias (0 for pairs) at the minimum, by L-BFGS in float64."""
    import torch

    counts = Counter(gram for row in rows for gram in row)
    names = sorted(gram for gram, count in counts.items() if count >= how.least)
    place = {gram: index for index, gram in enumerate(names)}
    cells = [
        (index, place[gram], value) for index, row in enumerate(rows) for gram, value in row.items() if gram in place
    ]
    which, column = (torch.tensor([cell[side] for cell in cells], dtype=torch.long) for side in (0, 1))
    values = torch.tensor([cell[2] for cell in cells], dtype=torch.float64)
    sign = torch.tensor([1.0 if label else -1.0 for label in labels], dtype=torch.float64)
    weights = torch.zeros(len(names) + 1, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=ROUNDS, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def loss() -> float:
        solver.zero_grad()
        scores = torch.zeros(len(rows), dtype=torch.float64).index_add(0, which, values * weights[column])
        scores = scores + (weights[-1] if kind == "labels" else 0.0)
        total = torch.nn.functional.softplus(-sign * scores).sum() + weights[:-1].square().sum() / (2 * how.strength)
        total.backward()
        return float(total.detach())

    solver.step(loss)
    found = weights.detach().tolist()
    return dict(zip(names, found[:-1], strict=True)), found[-1]
