"""A linear model of the words and pairs of words in a text, and its file: JSON that people can read."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from klimb.errors import RewardError

FORM = 1
WORD = re.compile(r"[\w']+")
START = "^"
"""Stands before the first word, so that how a text begins is a feature."""
LARGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class WordModel:
    """s(y) = bias + sum of the weights of the n-grams in y / sqrt(their number); an n-gram counts once.

    `kind` says what it was fitted to: `labels` (s is a log-odds) or `pairs` (s is a reward, its zero means nothing).
    `about` says on what, and how good it is. It reads the `first` words of a text, as many as it was fitted to.
    """

    kind: str
    bias: float
    weights: Mapping[str, float]
    about: Mapping[str, Any] = field(default_factory=dict)
    first: int | None = None

    def score(self, text: str) -> float:
        """s of a text; the bias for a text without words."""
        found = grams(begun(text, self.first))
        return self.bias + sum(self.weights.get(gram, 0.0) for gram in sorted(found)) / math.sqrt(max(1, len(found)))

    def probability(self, text: str) -> float:
        """1 / (1 + exp(-s)) of a text."""
        return sigmoid(self.score(text))

    def record(self) -> dict[str, Any]:
        """What stands in the file."""
        weights = dict(sorted(self.weights.items()))
        head = {"word_model": FORM, "kind": self.kind, "first": self.first, "bias": self.bias}
        return {**head, "about": dict(self.about), "weights": weights}


def begun(text: str, first: int | None) -> str:
    """A text up to the end of its `first` words; None = all of it."""
    ends = [found.end() for found in itertools.islice(WORD.finditer(text), first)] if first else []
    return text[: ends[-1]] if ends else text


def grams(text: str) -> set[str]:
    """The words of a text, capitals aside, and its pairs of neighbours, the first word's being the start."""
    words = WORD.findall(text.casefold())
    return {*words, *(f"{a} {b}" for a, b in zip([START, *words], words, strict=False))}


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), for any number."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))


def load(path: Path) -> WordModel:
    """The model of a file. Raises RewardError where there is none."""
    asked = f"a word model in {path}"
    try:
        if path.stat().st_size > LARGEST:
            raise RewardError(asked, f"more than {LARGEST >> 20} MiB", "fit it with a higher `least`")
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RewardError(asked, str(error)[:200], "make it by `klimb rewards fit`") from error
    if not isinstance(found, dict) or found.get("word_model") != FORM:
        raise RewardError(asked, "another kind of file", "make it by `klimb rewards fit`")
    weights, bias, kind, first = (found.get(name) for name in ("weights", "bias", "kind", "first"))
    finite = isinstance(weights, dict) and all(_finite(one) for one in [bias, *weights.values()])
    counts = first is None or (isinstance(first, int) and first > 0)
    if not finite or not counts or kind not in ("labels", "pairs"):
        wrong = "weights that are no finite numbers, or no kind, or no number of words"
        raise RewardError(asked, wrong, "make it by `klimb rewards fit`")
    return WordModel(str(kind), float(found["bias"]), dict(found["weights"]), found.get("about") or {}, first)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
