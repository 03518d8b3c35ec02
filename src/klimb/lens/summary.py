"""All the numbers of a view that stand in the plots, in one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from klimb.lens import statistics
from klimb.lens.statistics import Bin, Histogram, Overlap
from klimb.lens.text import token
from klimb.lens.view import View


@dataclass(frozen=True, slots=True)
class WordEntropy:
    """The average entropy of a token string over its occurrences."""

    text: str
    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Distributions over the tokens of a view; entropies in nats, of the policy that drew unless said otherwise."""

    tokens: int
    rho: float = statistics.RHO
    threshold: float | None = None
    """The entropy of the last token of the top-rho set."""
    share_under: float | None = None
    """The share of tokens under 0.01 nats."""
    histogram: Histogram | None = None
    least: int = 0
    """How often a token string must occur to be listed."""
    highest: list[WordEntropy] = field(default_factory=list)
    lowest: list[WordEntropy] = field(default_factory=list)
    by_position: list[Bin] = field(default_factory=list)
    kept_by_reward: list[Bin] = field(default_factory=list)
    change: list[Bin] = field(default_factory=list)
    """The change of entropy since the initial policy, by percentile of the initial entropy."""
    overlaps: Mapping[str, Overlap] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As values for JSON."""
        return asdict(self)


def summarise(view: View) -> Summary:
    """The numbers of a view; what its values do not allow is left empty."""
    values, entropy = view.values, view.values.get("entropy")
    if entropy is None or not entropy.size:
        return Summary(int(view.tokens.size))
    least = view.least or max(3, round(entropy.size / 1000))
    high, low = statistics.by_word(_one_each(view), entropy, least)
    after, before = values.get("now_entropy"), values.get("initial_entropy")
    return Summary(
        tokens=int(view.tokens.size),
        threshold=statistics.threshold(entropy),
        share_under=statistics.share_under(entropy),
        histogram=statistics.histogram(entropy),
        least=least,
        highest=_words(view, high),
        lowest=_words(view, low),
        by_position=statistics.by_position(view.row, entropy),
        kept_by_reward=_kept(view),
        change=statistics.change_by_percentile(before, after) if before is not None and after is not None else [],
        overlaps=view.overlaps,
    )


def _one_each(view: View) -> NDArray[np.int64]:
    """The tokens, with one id for all that are the same string."""
    ids, where = np.unique(view.tokens, return_inverse=True)
    first: dict[str, int] = {}
    same = [first.setdefault(view.words(int(each)), int(each)) for each in ids]
    return np.array(same, np.int64)[where]


def _words(view: View, words: list[statistics.Word]) -> list[WordEntropy]:
    return [WordEntropy(token(view.words(word.token)), word.mean, word.count) for word in words]


def _kept(view: View) -> list[Bin]:
    """The share kept by reward; rows without a reward do not enter."""
    if "kept" not in view.values:
        return []
    rewards = [one.reward for group in view.groups for one in group.rollouts]
    each = np.array([np.nan if reward is None else reward for reward in rewards], np.float32)
    return statistics.kept_by_reward(view.values["kept"] > 0, each[view.row])
