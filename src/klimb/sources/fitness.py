"""Logs as experience: which groups an objective can learn from, why the others are left out, and when none is left."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from klimb.digests import sha256_of
from klimb.errors import DataError, named
from klimb.sources.base import Demands
from klimb.sources.buffer import Held, Replays

if TYPE_CHECKING:
    from klimb.types import Group

Reason = tuple[str, str]
UNWEIGHTED = "objective.type=sft source.type=successes, or objective.type=dpo source.type=logged_pairs"
"""What learns without importance weights."""
REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        "replayed": ("was replayed there from another log", "the log that it comes from"),
        "no tokens": (
            "has no token ids of its prompt or of an answer",
            "import the log again with --tokenizer MODEL",
        ),
        "no score": ("has no scored answer", "score the log: rewards are not made up"),
        "no log-probs": (
            "has an answer without the log-probs of the policy that drew it, so importance weights are not known",
            f"{UNWEIGHTED}; or import it with --estimate MODEL and source.estimated=true",
        ),
        "no entropies": (
            "has an answer without the entropies of the policy that drew it, which the selector ranks by",
            "selector.entropy.of=current",
        ),
        "estimated": (
            "has log-probs that a model gave afterwards, which are not those of the policy that drew it",
            f"source.estimated=true if that is the model that drew; or {UNWEIGHTED}",
        ),
        "unknown sampling": (
            "was drawn at a temperature, top_p and top_k that are not known, so its log-probs are of no known policy",
            f"name them in the mapping of the import; or {UNWEIGHTED}",
        ),
        "truncated": (
            "was drawn with top_p, top_k or two temperatures: what was cut off has no importance weight",
            f"a log drawn with top_p=1 and top_k=0; or {UNWEIGHTED}",
        ),
        "greedy": (
            "was drawn at temperature 0: the log has one answer where the policy has many",
            "a log drawn at a temperature above 0; or objective.type=sft source.type=successes",
        ),
        "alone": (
            "has fewer scored answers than the objective compares",
            "objective.type=reinforce objective.baseline=batch, which compares answers of all prompts",
        ),
        "no success": ("has no answer with a reward of source.success", "a lower source.success"),
        "no pair": (
            "has no two answers with different rewards",
            "objective.type=kto source.type=logged_labels, or a log with better and worse answers",
        ),
    }
)
"""Why a group is left out, and what helps."""


@dataclass(slots=True)
class Log:
    """What a log gives: the groups that are fit, and how many were left out for which reason."""

    held: list[Held] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    """All of them."""

    @property
    def rows(self) -> int:
        """How many answers are fit."""
        return sum(len(held.group.rollouts) for held in self.held)

    def describe(self) -> str:
        """In words: what is there and what was left out."""
        out = ", ".join(f"{count:,} {reason}" for reason, count in self.left.most_common())
        rest = f"; left out {self.left.total():,}: {out}" if out else ""
        return f"{len(self.held):,} of {self.groups:,} groups fit, with {self.rows:,} answers{rest}"


def read_log(source: Replays, path: Path, most: int, demands: Demands) -> Log:
    """The groups of a log that are fit, of at most `most` answers each. Raises DataError, also where none is."""
    from klimb.rollouts import files_of, read

    found = Log()
    kept: list[Group] = []
    last: dict[str, int] = {}
    for group in (group for file in files_of(path) for group in read(file)):
        last[group.version] = found.groups
        found.groups += 1
        cut = replace(group, rollouts=group.rollouts[:most])
        if reason := unfit(source, cut, demands):
            found.left[reason] += 1
        else:
            kept.append(cut)
    order = sorted(last, key=lambda version: -last[version])
    rank = {version: place for place, version in enumerate(order)}
    found.held = [Held.of(group, -rank[group.version], source.success) for group in kept]
    if len(found.held) < source.prompts:
        raise too_few(found, source, path, demands)
    if demands.compared > 1 and all(held.group.degenerate for held in found.held):
        raise DataError(
            f"compare the answers to a prompt ({demands.objective}) in {path}",
            "all answers to each prompt have the same reward: no group has a signal",
            "objective.type=reinforce objective.baseline=batch, or a log with better and worse answers",
        )
    return found


def unfit(source: Replays, group: Group, demands: Demands) -> str:
    """Why a group cannot be learned from by an objective with these demands; empty where it can."""
    rows = group.rollouts
    done = [rollout.completion for rollout in rows]
    scored = sum(rollout.reward is not None for rollout in rows)
    transform, weighted = group.transform, demands.weighted
    checks = {
        "replayed": group.age is not None,
        "no tokens": not group.prompt.tokens or not all(rollout.completion.tokens for rollout in rows),
        "no score": not scored,
        "no log-probs": weighted and not all(rollout.completion.logps for rollout in rows),
        "no entropies": demands.entropies and any(len(c.entropies) != len(c.tokens) for c in done),
        "estimated": weighted and not source.estimated and any(rollout.completion.estimated for rollout in rows),
        "unknown sampling": weighted and not transform.known and not all(r.completion.estimated for r in rows),
        "truncated": weighted and transform.known and not transform.comparable,
        "greedy": weighted and transform.known and transform.temperature == 0,
        "alone": scored < demands.compared,
    }
    return next((reason for reason, holds in checks.items() if holds), "")


def fingerprint(path: Path) -> str:
    """A hash of a log's content, so that a run never goes on with another one. Raises DataError."""
    from klimb.rollouts import files_of

    digest = hashlib.sha256()
    for file in files_of(path):
        try:
            digest.update(bytes.fromhex(sha256_of(file)))
        except OSError as error:
            raise DataError(f"rollouts in {file}", "no such file", "correct source.logs") from error
    return digest.hexdigest()


def fits(log: Log, vocabulary: int, context: int, path: Path) -> None:
    """Raises DataError, all such prompts named, where the policy does not know a token or an answer is too long for it.

    What a reward model learns from has its EOS already, which takes room as in scoring.
    """
    faults: dict[str, str] = {}
    for group in (held.group for held in log.held):
        rows = [(*group.prompt.tokens, *rollout.completion.tokens) for rollout in group.rollouts]
        largest, longest = max(map(max, rows)), max(map(len, rows))
        if largest >= vocabulary or longest > context:
            name = group.prompt.id
            faults.setdefault(name, f"prompt {name!r} has token {largest} or {longest} tokens with an answer")
    if not faults:
        return
    raise DataError(
        f"learn from {path}",
        f"{next(iter(faults.values()))} (a reward model's with EOS); the policy knows {vocabulary:,} tokens and reads "
        f"{context:,}",
        "the model whose tokenizer wrote the log, or one with a longer context; or a log without "
        + named([repr(name) for name in faults]),
    )


def too_few(found: Log, source: Replays, path: Path, demands: Demands) -> DataError:
    """Why a log is not fit for the objective, by its commonest reason."""
    asked = f"{source.prompts} groups a step for {demands.objective or 'an objective'} in {path}"
    if not found.left:
        few = max(found.groups, 1)
        return DataError(asked, f"{found.groups} in all", f"source.prompts={few} or fewer, or more logs")
    reason, count = found.left.most_common(1)[0]
    what, cure = REASONS[reason]
    return DataError(asked, f"{found.describe()}; each of these {count:,} {what}", cure)
