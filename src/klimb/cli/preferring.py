"""`klimb data inspect FILE --rows FORM`: preference rows looked at before any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from klimb.cli.places import opened
from klimb.cli.text import printable
from klimb.config import resolve
from klimb.data.inspecting import inspect as inspected
from klimb.data.preferences import Preferences
from klimb.data.tokenizing import tokenized
from klimb.errors import DataError


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form of the rows, the model whose tokens are counted, and where training would cut prompts and answers."""

    form: str
    model: str | None = None
    cut: tuple[int, int] | None = None


def inspect(path: Path, wanted: Wanted, *, as_json: Path | None = None) -> None:
    """Prints what the rows of a file hold, and writes the same as JSON. Raises DataError, SettingsError."""
    from klimb.atomic import write_atomic
    from klimb.data.faulty import Faults
    from klimb.records import pretty

    if wanted.cut and wanted.model is None:
        raise DataError("--cut counts tokens", "no model to count them with", "--policy MODEL")
    if wanted.cut and min(wanted.cut) < 1:
        raise DataError("--cut wants two lengths of at least 1", str(wanted.cut), "--cut 512 256")
    settings = resolve(Preferences, {"path": str(path), "rows": wanted.form, "skip": True})
    policy = opened(wanted.model) if wanted.model else None
    problems = settings.open()
    found = inspected(problems, None if policy is None else lambda text: len(policy.reply(text)))
    fit = None if policy is None else tokenized(problems, policy, *(wanted.cut or (None, None)))
    faults = Faults()
    list(settings.read(path, faults))
    if as_json:
        more = {} if fit is None else {"tokenized": fit.record()}
        write_atomic(as_json, pretty({**found.record(), **more, "unusable": faults.count, "shown": faults.lines()}))
    lines = [*found.lines(), *(fit.lines() if fit else []), f"unusable    {faults.count:,} rows", *faults.lines()]
    print(printable("\n".join(lines)))
