"""What preference rows hold, before any training: sizes, ties, leakage, and the lines that a reward model must beat."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from klimb.data.base import Problems
from klimb.data.preferences import identical
from klimb.seeds import seed_of
from klimb.types import Prompt, Reply

WORD = re.compile(r"\w+")
FOLDS = 5
PASSES = 5


@dataclass(frozen=True, slots=True)
class Found:
    """What the rows of a file hold. Shares are of the pairs; lengths are in `unit`, medians and largest.

    `leaked`: the held-out prompts that stand in the training file; None where one file is split by prompt.
    """

    train: int
    held_out: int
    prompts: int
    pairs: int
    duplicates: int
    identical: int
    ties: int
    empty: int
    leaked: int | None
    unit: str
    prompt: tuple[int, int]
    chosen: tuple[int, int]
    rejected: tuple[int, int]
    longer_wins: float | None
    words_win: float | None

    def record(self) -> dict[str, object]:
        """All of it as JSON would have it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The same in words."""
        lengths = ", ".join(
            f"{name} {middle:,} (at most {most:,})"
            for name, (middle, most) in (("prompt", self.prompt), ("chosen", self.chosen), ("rejected", self.rejected))
        )
        ties = f"{self.identical:,} pairs of equal answers, {self.ties:,} of equal scores"
        faults = f"{self.duplicates:,} repeated rows, {ties}, {self.empty:,} empty answers"
        leaked = f"{self.leaked or 0:,} held-out prompts stand in the training file; its rows of them are left out"
        sides = f"{self.train:,} to learn from and {self.held_out:,} held out"
        return [
            f"rows        {sides}, {self.prompts:,} prompts, {self.pairs:,} pairs",
            f"faults      {faults}",
            *([] if self.leaked is None else [f"            {leaked}"]),
            f"{self.unit:<12}{lengths} at the median",
            f"longer wins {_percent(self.longer_wins)} of the pairs (equal lengths count as a half)",
            f"word model  {_percent(self.words_win)}, each fifth of the prompts judged by the words of the others",
            "            a reward model that is not above both has learned nothing else",
        ]


def inspect(problems: Problems, count: Callable[[str], int] | None = None, leaked: int | None = None) -> Found:
    """Looks at every row. `count` gives an answer's tokens, EOS included; without it lengths are in words."""
    prompts, given = [*problems.train, *problems.held_out], problems.given
    size = count or (lambda text: len(WORD.findall(text)))
    pairs = [(prompt, given[prompt.id]) for prompt in prompts if len(given[prompt.id]) == 2]
    rows = Counter((asked(prompt), given[prompt.id]) for prompt in prompts)
    replies = [reply for prompt in prompts for reply in given[prompt.id]]
    return Found(
        train=len(problems.train),
        held_out=len(problems.held_out),
        prompts=len({asked(prompt) for prompt in prompts}),
        pairs=len(pairs),
        duplicates=sum(times - 1 for times in rows.values()),
        identical=sum(identical(both) for _, both in pairs),
        ties=sum(both[0].score is not None and both[0].score == both[1].score for _, both in pairs),
        empty=sum(not reply.text.strip() for reply in replies),
        leaked=leaked,
        unit="tokens" if count else "words",
        prompt=_sizes([size(asked(prompt)) for prompt in prompts]),
        chosen=_sizes([size(reply.text) for reply in replies if reply.chosen]),
        rejected=_sizes([size(reply.text) for reply in replies if not reply.chosen]),
        longer_wins=_share([size(both[0].text) - size(both[1].text) for _, both in pairs]),
        words_win=_share(word_scores(pairs)),
    )


def asked(prompt: Prompt) -> str:
    """What a prompt asks, as text."""
    return prompt.text if prompt.text is not None else "\n".join(turn.content for turn in prompt.messages)


def word_scores(pairs: Sequence[tuple[Prompt, tuple[Reply, ...]]]) -> list[float]:
    """By how much the words of each chosen answer speak for it: a logistic model of the other folds' words.

    Folds are of prompts, so that no prompt is judged by what was learned from it. Features are whether a word stands in
    one answer and not in the other; a fixed number of passes of stochastic gradient descent, in a fixed order.
    """
    folds = [seed_of("fold", asked(prompt)) % FOLDS for prompt, _ in pairs]
    features = [_difference(both) for _, both in pairs]
    scores = [0.0] * len(pairs)
    for fold in range(FOLDS):
        weights: dict[str, float] = {}
        for rate in (0.1 / (1 + index) for index in range(PASSES)):
            for place, words in enumerate(features):
                if folds[place] != fold:
                    slope = rate / (1 + math.exp(min(_dot(weights, words), 30.0)))
                    for word, sign in words.items():
                        weights[word] = weights.get(word, 0.0) + slope * sign
        for place, words in enumerate(features):
            if folds[place] == fold:
                scores[place] = _dot(weights, words)
    return scores


def _difference(both: tuple[Reply, ...]) -> dict[str, int]:
    """1 for the words of the chosen answer alone, -1 for those of the rejected one alone, sorted."""
    chosen, rejected = (set(WORD.findall(reply.text.lower())) for reply in both)
    return {word: 1 if word in chosen else -1 for word in sorted(chosen ^ rejected)}


def _dot(weights: Mapping[str, float], words: Mapping[str, int]) -> float:
    return sum(weights.get(word, 0.0) * sign for word, sign in words.items())


def _share(margins: Sequence[float]) -> float | None:
    """How often a margin is positive; none of them at all = a half of one."""
    return sum(0.5 if margin == 0 else float(margin > 0) for margin in margins) / len(margins) if margins else None


def _sizes(lengths: Sequence[int]) -> tuple[int, int]:
    return (int(median(lengths)), max(lengths)) if lengths else (0, 0)


def _percent(share: float | None) -> str:
    return "no pairs" if share is None else f"{100 * share:.1f} %"
