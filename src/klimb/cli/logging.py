"""`klimb logs` and `klimb data inspect`: logs checked, imported and looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.cli.places import opened
from klimb.cli.text import printable
from klimb.errors import DataError

if TYPE_CHECKING:
    from klimb.logs.importing import Imported
    from klimb.logs.rules import Note


@dataclass(frozen=True, slots=True)
class Models:
    """Which models an import asks: for token ids, and for log-probs that are missing."""

    tokenizer: str | None = None
    estimate: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an inspection compares with: the reward of a success; a policy, asked as `logs.inspecting.Asked` says."""

    policy: str | None = None
    success: float = 1.0
    most: int = 256
    seed: int = 0
    temperature: float = 1.0


def check(path: Path, *, every: bool = False, as_json: bool = False) -> bool:
    """Prints what is wrong with a rollouts file, and says whether nothing is. Raises DataError where it is none."""
    from klimb.logs.checking import SHOWN
    from klimb.logs.checking import check as checked

    found = checked(path, None if every else SHOWN)
    if as_json:
        faults = [{"asked": one.asked, "found": one.found, "cure": one.cure} for one in found.faults]
        sizes = {"rows": found.rows, "groups": found.groups, "missing": found.missing, "estimated": found.estimated}
        print(json.dumps({"ok": not found.count, "faults": found.count, "shown": faults, **sizes}))
        return not found.count
    for fault in found.faults:
        print(printable(fault.line()))
    if found.count > len(found.faults):
        print(f"and {found.count - len(found.faults):,} more (--all shows them)")
    state = f"{found.count:,} faults" if found.count else "sound"
    without = f"; log-probs missing in {found.missing:,}, estimated in {found.estimated:,}"
    print(f"{path}: {found.rows:,} rows in {found.groups:,} groups{without}: {state}")
    return not found.count


def import_(source: Path, out: Path, mapping: str, models: Models, listed: Path | None) -> None:
    """Imports a log, writes the list of rows that a rule touched, and prints what became of it. Raises KlimbError."""
    from klimb.atomic import write_atomic
    from klimb.logs.importing import import_log

    if not out.parent.is_dir():
        raise DataError(f"a folder for {out}", "there is none", f"mkdir -p {out.parent}")
    notes: list[Note] = []
    beside = listed or out.with_suffix(".rows.jsonl")
    try:
        found = import_log(
            source, mapping, out, opened, tokenizer=models.tokenizer, estimate=models.estimate, notes=notes
        )
    finally:
        if notes:
            write_atomic(beside, "".join(json.dumps(note.record()) + "\n" for note in notes))
        else:
            beside.unlink(missing_ok=True)
    print(printable("\n".join(_lines(found, out, beside))))


def _lines(found: Imported, out: Path, beside: Path) -> Sequence[str]:
    from klimb.logs.importing import UNLIKELY
    from klimb.logs.rules import REFUSED, REPAIRED, RULES

    missing = found.completions - found.logged - found.estimated
    others = f"token ids: {found.tokenised:,}; rewards: {found.scored:,}"
    lines = [
        f"{found.rows:,} rows read; {found.completions:,} completions in {found.groups:,} groups written to {out}",
        f"log-probs: {found.logged:,} logged, {found.estimated:,} estimated, {missing:,} missing; {others}",
    ]
    parts = [name if share == 1 else f"{share:g} {name}" for name, share in found.shares.items()]
    lines.append(f"reward: {' + '.join(parts) or 'none, as the map names no score'}")
    if found.mean_estimate is not None and found.unlikely is not None:
        share = f"{100 * found.unlikely:.1f} % of tokens below {UNLIKELY:g}, which a model that wrote them hardly says"
        lines.append(f"the estimates: mean {found.mean_estimate:.3f} nats a token, {share}")
    if found.gap is not None:
        lines.append(f"where log-probs are logged, the estimate is off by {found.gap:.3f} nats a token")
    for action in (REFUSED, REPAIRED):
        for rule, count in found.by_rule(action).most_common():
            first = next(note for note in found.notes if note.rule == rule)
            where = f"first row {first.row}, field {first.field!r}: {first.found}"
            lines.append(f"{action} {count:,} by {rule}: {RULES[rule].says} ({where}; try: {RULES[rule].cure})")
    return [*lines, f"every one of them is in {beside}"] if found.notes else lines


def inspect(logs: Path, wanted: Wanted, *, as_json: Path | None = None, html: Path | None = None) -> None:
    """Prints what logs hold and the verdict, and writes the same as JSON and as a page. Raises KlimbError."""
    from klimb.atomic import write_atomic
    from klimb.logs.inspecting import Asked
    from klimb.logs.inspecting import inspect as inspected
    from klimb.logs.page import lines, page
    from klimb.records import pretty
    from klimb.rollouts import files_of

    for target in filter(None, (as_json, html)):
        if not target.parent.is_dir():
            raise DataError(f"a folder for {target}", "there is none", f"mkdir -p {target.parent}")
    files_of(logs)  # before a model is loaded
    policy = opened(wanted.policy) if wanted.policy else None
    facts = inspected(logs, policy, Asked(wanted.most, wanted.seed, wanted.temperature), wanted.success)
    if as_json:
        write_atomic(as_json, pretty(facts))
    if html:
        write_atomic(html, page(facts))
    print(printable("\n".join(lines(facts))))
