"""Proofs of what a user's file defines: a plain loss, or an objective, `FILE.py:NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from klimb import userfile
from klimb.errors import KlimbError
from klimb.objectives.base import Objective
from klimb.proving import laws
from klimb.proving.catalog import FAR, worlds
from klimb.proving.expected import expected_gradient
from klimb.proving.match import Match, matches
from klimb.proving.plain import asked, loss_gradient
from klimb.proving.table import Row, candidates_of
from klimb.proving.worlds import World

STATED = "nothing stated"


def prove_file(path: str, off_policy: bool = False) -> list[Row]:
    """A row for each world: the target whose gradient the loss has, which holds where there is one.

    A subclass of Objective is also held to the laws: a broken one is a row that does not hold.
    """
    found = loaded(path)
    here = worlds(FAR if off_policy else 0.0)
    policy = "far" if off_policy else "on"
    if isinstance(found, type) and issubclass(found, Objective):
        objective = _made(found, path)
        broken = [_broken(path, law, policy) for law in laws.check(objective)]
        return [_matched(path, w, policy, matches(expected_gradient(objective, w), w)) for w in here] + broken
    asked(found)
    return [_matched(path, w, policy, matches(loss_gradient(found, w), w)) for w in here if not _repeats(w)]


def loaded(path: str) -> Any:
    """The function or class `FILE.py:NAME`. Raises KlimbError that says what was found and what to do."""
    file, _, name = path.rpartition(":")
    what = f"prove {path}"
    if not Path(file).is_file():
        raise KlimbError(what, f"no file {file or path!r}", "my.py:my_loss, relative to where klimb is started")
    try:
        module = userfile.run(file)
    except Exception as error:
        raise KlimbError(what, f"{type(error).__name__}: {error}", f"make `python {file}` run") from error
    found = getattr(module, name, None)
    if not callable(found):
        names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise KlimbError(what, f"no function or class {name!r} in {file}", f"one of {', '.join(names) or 'none'}")
    return found


def _made(kind: type[Objective], path: str) -> Objective:
    try:
        return kind()
    except ValueError as error:
        raise KlimbError(
            f"prove {path}", f"{error}".replace("\n", " ")[:200], "defaults for all its settings"
        ) from error


def _repeats(world: World) -> bool:
    """A plain loss has no advantages of its own, so it says nothing more in the world that is there for those."""
    return world.name == "answers"


def _matched(path: str, world: World, policy: str, found: Sequence[Match]) -> Row:
    best = found[0]
    near = (best.bias, best.cosine, best.largest)
    return Row(path, {}, {}, world.name, policy, best.name, STATED, *near, None, best.fits, candidates_of(found))


def _broken(path: str, law: str, policy: str) -> Row:
    return Row(path, {}, {}, "laws", policy, f"law: {law}", STATED, None, None, None, None, holds=False)
