"""The whole inspection of logs as plain facts, for the terminal, for JSON and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from klimb.errors import DataError
from klimb.logs.against import compare
from klimb.logs.counting import Counted, Numbers, count, spread
from klimb.logs.covering import cover
from klimb.logs.drawing import draw
from klimb.logs.judging import judge
from klimb.logs.usable import Fit, fit

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


SAMPLES = 256
"""The most answers that the policy is asked to give itself."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a policy is asked: about at most `most` rows, drawn by `seed`, at the temperature at which it is to learn."""

    most: int = 256
    seed: int = 0
    temperature: float = 1.0


def inspect(
    logs: Path, policy: Policy | None = None, asked: Asked | None = None, success: float = 1.0
) -> dict[str, Any]:
    """Every fact about the logs, and about a policy beside them where there is one. Raises DataError."""
    counted = count(logs)
    if not counted.rows:
        raise DataError(f"rows in {logs}", "none", "logs with at least one row")
    a = asked or Asked()
    compared = None if policy is None else compare(policy, logs, draw(counted, a.most, a.seed), a.temperature)
    facts = _facts(counted, success)
    facts["logs"] = str(logs)
    facts["policy"] = None if compared is None else compared.as_dict()
    within = (min(a.most, SAMPLES), a.seed, a.temperature)
    covered = None if compared is None or policy is None else cover(policy, logs, *within)
    facts["temperature"] = a.temperature
    facts["coverage"] = None if covered is None else covered.as_dict()
    judged = judge(facts)
    facts["verdict"] = [
        {"objectives": one.objectives, "enough": one.enough, "why": one.why, "line": one.line(), "said": one.said}
        for one in judged
    ]
    return facts


def _facts(counted: Counted, success: float) -> dict[str, Any]:
    rewards = np.frombuffer(counted.rewards, np.float64)
    scored = rewards[~np.isnan(rewards)]
    return {
        "rows": counted.rows,
        "groups": counted.groups,
        "scored": len(scored),
        "success": success,
        "successes": int((scored >= success).sum()),
        "logged": counted.logged,
        "estimated": counted.estimated,
        "with_logps": counted.logged + counted.estimated,
        "untokenised": counted.untokenised,
        "truncated": counted.truncated,
        "cut_support": counted.cut_support,
        "mean_logp": counted.logp_sum / counted.logp_tokens if counted.logp_tokens else None,
        "versions": len(counted.versions),
        "estimators": dict(counted.estimators),
        "reward": spread(scored),
        "length": spread(np.frombuffer(counted.lengths, np.int32).astype(np.float64)),
        "sources": {
            name: {"outcomes": dict(source.outcomes), "values": spread(source.values)}
            for name, source in sorted(counted.sources.items())
        },
        "further_scores": counted.further_scores,
        "prompts": _prompts(counted, rewards, success),
        "fit": {name: _fit(counted, rewards, success, name == "weighted") for name in ("weighted", "plain")},
    }


def _fit(counted: Counted, rewards: Numbers, success: float, weighted: bool) -> dict[str, Any]:
    """What there is to learn from: by importance weights, or without."""
    found: Fit = fit(
        np.frombuffer(counted.marks, np.uint16), np.frombuffer(counted.starts, np.int64), weighted=weighted
    )
    kept = rewards[found.scored]
    _, which = np.unique(np.frombuffer(counted.prompts, np.int64)[found.scored], return_inverse=True)
    lowest, highest = _ends(kept, which, int(which.max(initial=-1)) + 1)
    return {
        "groups": found.groups,
        "rows": found.rows,
        "left": dict(found.left),
        "why": found.why(),
        "successes": int((kept >= success).sum()),
        "differing": int((highest > lowest).sum()),
    }


def _ends(rewards: Numbers, which: NDArray[np.int64], count: int) -> tuple[Numbers, Numbers]:
    """The lowest and the highest reward of each prompt."""
    highest, lowest = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(highest, which, rewards)
    np.minimum.at(lowest, which, rewards)
    return lowest, highest


def _prompts(counted: Counted, rewards: Numbers, success: float) -> dict[str, int]:
    """How many prompts there are, which stand under several ids, and how often each is answered well."""
    contents = np.frombuffer(counted.prompts, np.int64)
    ids = np.frombuffer(counted.ids, np.int64)
    different, which = np.unique(contents, return_inverse=True)
    pairs = np.unique(np.stack([which, ids]), axis=1)
    known = ~np.isnan(rewards)
    tries = np.bincount(which[known], minlength=len(different))
    wins = np.bincount(which[known], weights=(rewards[known] >= success).astype(float), minlength=len(different))
    lowest, highest = _ends(rewards[known], which[known], len(different))
    asked = tries > 0
    return {
        "different": len(different),
        "several_ids": int((np.bincount(pairs[0]) > 1).sum()),
        "repeated_rows": counted.rows - len(different),
        "alone": int((np.bincount(which) == 1).sum()),
        "never": int((asked & (wins == 0)).sum()),
        "always": int((asked & (wins == tries)).sum()),
        "mixed": int((asked & (wins > 0) & (wins < tries)).sum()),
        "unscored": int((~asked).sum()),
        "differing": int((highest[asked] > lowest[asked]).sum()),
    }
