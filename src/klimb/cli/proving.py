"""`klimb prove`: the bias of an objective's expected gradient against what it states, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_args

from klimb.cli.text import printable
from klimb.errors import KlimbError

if TYPE_CHECKING:
    from klimb.objectives import Objective
    from klimb.proving.table import Candidate, Row


def prove(name: str | None, words: Sequence[str], *, every: bool, off_policy: bool, as_json: bool) -> bool:
    """Prints the rows, or one JSON list of them; says whether all hold."""
    if every == (name is not None):
        cure = "klimb prove grpo, klimb prove my.py:my_loss, or klimb prove --all"
        raise KlimbError("prove an objective", "none, and no --all" if name is None else "a name and --all", cure)
    rows = []
    for row in _all(off_policy) if name is None else _one(name, words, off_policy):
        rows.append(row)
        if not as_json:
            print(printable("\n".join(_lines(row))), flush=True)
    held = sum(row.holds for row in rows)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(f"{held} of {len(rows)} rows hold")
    return held == len(rows)


def _all(off_policy: bool) -> Iterable[Row]:
    """Every row, or those off-policy alone."""
    from klimb.proving.catalog import EVERY
    from klimb.proving.table import prove as rows_of
    from klimb.proving.table import prove_all

    return (row for one in EVERY for row in rows_of(one, off_policy=True)) if off_policy else prove_all(EVERY)


def _one(name: str, words: Sequence[str], off_policy: bool) -> Iterator[Row]:
    if ".py" in name:
        from klimb.proving.files import prove_file

        if words:
            raise KlimbError(f"prove {name} {' '.join(words)}", "settings for a user's file", "defaults in the file")
        yield from prove_file(name, off_policy)
        return
    from klimb.proving.table import prove as rows_of

    for objective in _named(name, words):
        yield from rows_of(objective, off_policy)


def _named(name: str, words: Sequence[str]) -> list[Objective]:
    """The objective of this type with these settings; without settings, those of the catalog of this type."""
    from klimb.config import Settings, apply_words, resolve
    from klimb.objectives import AnyObjective
    from klimb.proving.catalog import EVERY

    elsewhere = _elsewhere()
    if name in elsewhere:
        raise KlimbError(f"prove {name}", *elsewhere[name])
    known = sorted({str(getattr(objective, "type", "")) for objective in EVERY})
    if name not in known:
        from klimb.nearest import nearest

        cure = nearest(name, known) or f"one of {', '.join(known)}, or FILE.py:NAME"
        raise KlimbError(f"prove {name}", "no objective of that name", cure)
    if not words:
        return [objective for objective in EVERY if getattr(objective, "type", "") == name]

    class Choice(Settings):
        """One objective."""

        objective: AnyObjective

    data: dict[str, Any] = apply_words(
        {"objective": {"type": name}}, [f"objective.{word.removeprefix('objective.')}" for word in words], Choice
    )
    return [resolve(Choice, data).objective]


def _elsewhere() -> dict[str, tuple[str, str]]:
    """Objectives that have no row here: what is found, and where their proof is."""
    from klimb.objectives import AnyPreference

    found = "an objective of given answers: it climbs no reward, whose exact gradient a row could be compared with"
    cure = "docs/preferences.md; tests/objectives/test_preferences.py and test_preference_formulas.py are its proof"
    names = [str(kind.model_fields["type"].default) for kind in get_args(get_args(AnyPreference)[0])]
    mine = ("the objective of a file of yours, of which nothing is stated", "klimb prove FILE.py:Class")
    return {**dict.fromkeys(names, (found, cure)), "custom": mine}


def _lines(row: Row) -> Iterator[str]:
    """The row, and what a gradient with a named bias is exactly; where no target fits, every one, nearest first."""
    sign = " ok " if row.holds else "FAIL"
    exact = "" if row.found in (row.target, "no target") else f"; it is {row.found}"
    said = f"{row.target}: {row.stated}{exact}"
    yield f"[{sign}] {label(row.objective, row.chosen):<52} {row.world:<10}{row.policy:<5} {_numbers(row)}  {said}"
    if row.target == "no target":
        yield from (f"{_numbers(one):>121}  {one.target}" for one in row.candidates)


def _numbers(row: Row | Candidate) -> str:
    """Bias, cosine and largest coordinate, where there are any."""
    if row.bias is None:
        return " " * 45
    return f"bias {row.bias:.1e}  cosine {row.cosine:+.4f}  largest {row.largest:.1e}"


def label(objective: str, chosen: Mapping[str, Any]) -> str:
    """The objective with the settings that are not the default, as `klimb prove` takes them."""
    values = {path: value if isinstance(value, str) else json.dumps(value) for path, value in chosen.items()}
    return " ".join([objective, *(f"{path}={value}".replace(" ", "") for path, value in values.items())])
