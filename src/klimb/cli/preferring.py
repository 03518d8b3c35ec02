"""`klimb data inspect FILE --rows FORM`: preference rows looked at before any training."""

from __future__ import annotations

from pathlib import Path

from klimb.cli.places import opened
from klimb.cli.text import printable
from klimb.config import resolve
from klimb.data.inspecting import inspect as inspected
from klimb.data.preferences import Preferences


def inspect(path: Path, form: str, model: str | None, *, as_json: Path | None = None) -> None:
    """Prints what the rows of a file hold, and writes the same as JSON. Raises DataError, SettingsError."""
    from klimb.atomic import write_atomic
    from klimb.data.faulty import Faults
    from klimb.records import pretty

    settings = resolve(Preferences, {"path": str(path), "rows": form, "skip": True})
    policy = opened(model) if model else None
    problems = settings.open()
    found = inspected(problems, None if policy is None else lambda text: len(policy.reply(text)))
    faults = Faults()
    list(settings.read(path, faults))
    if as_json:
        write_atomic(as_json, pretty({**found.record(), "unusable": faults.count, "shown": faults.lines()}))
    print(printable("\n".join([*found.lines(), f"unusable    {faults.count:,} rows", *faults.lines()])))
