"""All reward sources of a run, opened together; failures are counted, and too many of them end the run."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from klimb.errors import RewardError
from klimb.rewards.base import Reward, Scorer
from klimb.rewards.costs import Costs
from klimb.types import Completion, Outcome, Prompt, Score

FEWEST = 16
"""Fewer scores than this are not enough to speak of a rate."""


class Source:
    """One opened source: its scores are checked, and its failures counted over a window."""

    def __init__(self, name: str, scorer: Scorer, *, counts: bool, limit: float, window: int) -> None:
        self.name, self.tally, self.costs = name, Counter[Outcome](), Costs()
        self.note = str(getattr(scorer, "note", ""))
        self._scorer, self._counts, self._limit = scorer, counts, limit
        self._recent: deque[Score] = deque(maxlen=window)

    @property
    def spent(self) -> dict[str, int]:
        """What else it counts: a judge its calls and tokens."""
        return dict(getattr(self._scorer, "spent", {}))

    @property
    def account(self) -> Mapping[str, Any]:
        """What it has cost since it was opened: calls, failures by cause, seconds, what else it counts."""
        return self.costs.summary() | self.spent

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """The scores, one a completion. Raises RewardError where too many of the last ones failed."""
        start = time.monotonic()
        scores = self._scorer(prompts, completions)
        self.costs.add(scores, time.monotonic() - start)
        if len(scores) != len(completions):
            raise RewardError(f"{len(completions)} scores of reward {self.name!r}", f"{len(scores)}", "mend the source")
        self.tally.update(score.outcome for score in scores)
        self._recent.extend(scores)
        self._check()
        return scores

    def _check(self) -> None:
        failed = [score for score in self._recent if not score.counts]
        if self._counts and len(self._recent) >= FEWEST and len(failed) > self._limit * len(self._recent):
            causes = Counter(f"{score.outcome}: {score.reason}"[:200] for score in failed)
            cause, times = causes.most_common(1)[0]
            raise RewardError(
                f"scores of reward {self.name!r} that can be used",
                f"{len(failed)} of the last {len(self._recent)} failed; {times} times {cause}",
                "mend the source, or give it weight 0",
            )


class Scoring:
    """Scores completions by every source; see `tally` for how the attempts ended."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    def __call__(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Completion],
        wanted: Sequence[Collection[str]] | None = None,
    ) -> list[dict[str, Score]]:
        """For each pair the score of every source by its name, or of those that are `wanted` for it.

        Raises RewardError where too many failed.
        """
        found: list[dict[str, Score]] = [{} for _ in completions]
        for source in self._sources:
            rows = [row for row in range(len(found)) if wanted is None or source.name in wanted[row]]
            if wanted is not None and not rows:
                continue
            scores = source.score([prompts[row] for row in rows], [completions[row] for row in rows])
            for row, score in zip(rows, scores, strict=True):
                found[row][source.name] = score
        return found

    @property
    def tally(self) -> Mapping[str, Mapping[Outcome, int]]:
        """How many attempts of each source ended in which way, since it was opened."""
        return {source.name: dict(source.tally) for source in self._sources}

    @property
    def notes(self) -> Mapping[str, str]:
        """What sources say of how they work here, by their names."""
        return {source.name: source.note for source in self._sources if source.note}

    @property
    def costs(self) -> Mapping[str, Mapping[str, Any]]:
        """What each source has cost since it was opened: calls, failures by cause, seconds."""
        return {source.name: source.account for source in self._sources}


@contextmanager
def open_all(rewards: Sequence[Reward], *, limit: float = 0.5, window: int = 256) -> Iterator[Scoring]:
    """Opens every source and closes all at the end.

    A source that counts and fails for more than a share `limit` of its last `window` scores ends the run (RewardError).
    """
    names = [name_of(reward) for reward in rewards]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RewardError("one name for each reward", f"twice: {', '.join(twice)}", "set `name` on one of them")
    with ExitStack() as stack:
        yield Scoring(
            [
                Source(name, stack.enter_context(reward.open()), counts=reward.weight != 0, limit=limit, window=window)
                for name, reward in zip(names, rewards, strict=True)
            ]
        )


def name_of(reward: Reward) -> str:
    """The name of a source in metrics and rollouts: its own, else its type."""
    return reward.name or str(getattr(reward, "type", type(reward).__name__.lower()))
