"""Imports a log: rows in some system's format become rollouts, and every row that does not is said, by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from klimb import rollouts
from klimb.errors import DataError
from klimb.logs.estimating import log_probs
from klimb.logs.maps import LogMap, load_map
from klimb.logs.reading import Rows, read_rows
from klimb.logs.rules import REFUSED, RULES, Note, Unusable
from klimb.logs.taking import shares_of, spread, take, with_rest
from klimb.logs.tokens import Done, estimated, finished, without_logps
from klimb.logs.unseen import refuse_unscored, refuse_unseen
from klimb.seeds import logged_seed
from klimb.types import Group, Rollout

if TYPE_CHECKING:
    from klimb.policy.policy import Policy

COMPARED = 64
"""On how many rows with logged log-probs the estimates are measured."""
UNLIKELY = -10.0
"""The log-prob, in nats, below which a token is one that the model would not have said."""


@dataclass(slots=True)
class Imported:
    """What became of a log.

    `shares`: the shares of the scores in the reward, by name. `gap`: how far estimates are from logged log-probs, in
    nats a token, where both are and nothing was cut off. `mean_estimate`: the mean log-prob that the estimates give a
    token, in nats, and `unlikely` the share of tokens that they give less than `UNLIKELY`: a model that wrote the log
    says hardly one such token. None = no estimate.
    """

    rows: int = 0
    completions: int = 0
    groups: int = 0
    tokenised: int = 0
    logged: int = 0
    estimated: int = 0
    scored: int = 0
    gap: float | None = None
    mean_estimate: float | None = None
    unlikely: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def by_rule(self, action: str) -> Counter[str]:
        """How many notes of an action each rule has."""
        return Counter(note.rule for note in self.notes if RULES[note.rule].action == action)

    @property
    def refused(self) -> int:
        """How many completions a rule refused."""
        return self.by_rule(REFUSED).total()


def import_log(
    source: Path,
    map_name: str,
    out: Path,
    open_model: Callable[[str], Policy],
    *,
    tokenizer: str | None = None,
    estimate: str | None = None,
    notes: list[Note] | None = None,
) -> Imported:
    """Writes the usable rows of `source` to `out`. Raises DataError where the file is no log, or no row is usable.

    `tokenizer` and `estimate` name models for `open_model`: for token ids, and for log-probs that are missing. `notes`
    is filled with what the rules did, also where that leaves no row.
    """
    mapping, own = load_map(map_name)
    rows = read_rows(source)
    refuse_unseen(source, rows.rows, mapping, own)
    mapping = with_rest(mapping, (row for _, row in rows.rows))
    refuse_unscored(mapping)
    name = tokenizer or estimate
    model = open_model(name) if name else None
    found = Imported(rows=len(rows.rows) + len(rows.notes), notes=[] if notes is None else notes)
    found.notes += rows.notes
    found.shares = shares_of(mapping)
    done = _take_all(rows, mapping, model, found)
    if not done:
        reasons = ", ".join(f"{rule} ({count})" for rule, count in found.by_rule(REFUSED).most_common(5))
        first = next((f"; first: row {n.row}, field {n.field!r}: {n.found}" for n in found.notes), "")
        raise DataError(f"usable rows in {source}", (reasons or "no rows") + first, "another --map, or mend the rows")
    if estimate is not None:
        judge = model if estimate == name and model is not None else open_model(estimate)
        done = _estimate(done, judge, estimate, found)
    groups, steps = _grouped(done)
    rollouts.write(out, groups, steps)
    _count(found, done, groups)
    return found


def _take_all(rows: Rows, mapping: LogMap, model: Policy | None, found: Imported) -> list[Done]:
    done: list[Done] = []
    for number, row in rows.rows:
        try:
            parts = list(spread(row, mapping))
        except Unusable as error:
            found.notes.append(Note.of(number, error.field, error.rule, error.found))
            continue
        for part in parts:
            try:
                one = finished(take(number, part, mapping), model, mapping.logps_of == "model")
            except Unusable as error:
                found.notes.append(Note.of(number, error.field, error.rule, error.found))
            else:
                found.notes += one.taken.notes
                done.append(one)
    found.notes.sort(key=lambda note: note.row)
    return done


def _estimate(done: list[Done], judge: Policy, name: str, found: Imported) -> list[Done]:
    """Fills in log-probs that are missing, and measures the estimate on rows that have logged ones."""
    both = [one for one in done if one.completion.logps and one.taken.transform.comparable][:COMPARED]
    if both:
        guesses = log_probs(judge, [(one.prompt, one.completion, one.taken.transform) for one in both])
        pairs = zip(both, guesses, strict=True)
        found.gap = fmean(abs(a - b) for one, guess in pairs for a, b in zip(one.completion.logps, guess, strict=True))
    lacking = [index for index, one in enumerate(done) if without_logps(one)]
    rows = [(done[index].prompt, done[index].completion, done[index].taken.transform) for index in lacking]
    guesses = log_probs(judge, rows) if rows else []
    for index, logps in zip(lacking, guesses, strict=True):
        done[index] = estimated(done[index], logps, name)
    if every := [logp for logps in guesses for logp in logps]:
        found.mean_estimate = fmean(every)
        found.unlikely = fmean(logp < UNLIKELY for logp in every)
    return done


def _grouped(done: Sequence[Done]) -> tuple[list[Group], list[int]]:
    """Completions of one prompt, step, policy and transform together, in order of their first row."""
    groups: dict[tuple[object, ...], list[Done]] = {}
    for one in done:
        p, t = one.prompt, one.taken
        key = (t.step, p.id, p.messages, p.text, p.tokens, p.answer, repr(p.metadata), t.transform, t.version)
        groups.setdefault(key, []).append(one)
    made = [Group(m[0].prompt, _rollouts(m), m[0].taken.transform, m[0].taken.version) for m in groups.values()]
    return made, [members[0].taken.step for members in groups.values()]


def _rollouts(members: Sequence[Done]) -> tuple[Rollout, ...]:
    named = [
        (one, k, logged_seed(one.prompt.id, one.taken.version, k, one.completion.text)) for k, one in enumerate(members)
    ]
    return tuple(Rollout(one.completion, k, seed, one.taken.scores, one.taken.reward) for one, k, seed in named)


def _count(found: Imported, done: Sequence[Done], groups: Sequence[Group]) -> None:
    found.completions, found.groups = len(done), len(groups)
    found.tokenised = sum(bool(one.completion.tokens) for one in done)
    found.estimated = sum(bool(one.completion.estimated) for one in done)
    found.logged = sum(bool(one.completion.logps) for one in done) - found.estimated
    found.scored = sum(one.taken.reward is not None for one in done)
