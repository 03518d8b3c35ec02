"""`klimb doctor`: what this machine has, what klimb makes of it, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator

from klimb.cli.findings import BAD, Finding, safely
from klimb.cli.text import printable
from klimb.redact import redact_text


def doctor(recipe: str | None, *, as_json: bool = False) -> bool:
    """Prints every finding, or one JSON object; says whether nothing is bad."""
    found = []
    for finding in _findings(recipe):
        found.append(finding)
        if not as_json:
            print(printable(redact_text(_line(finding))), flush=True)
    bad = [finding for finding in found if finding.state == BAD]
    if as_json:
        print(redact_text(json.dumps({"ok": not bad, "findings": [finding.as_dict() for finding in found]}, indent=1)))
    else:
        print("all is well" if not bad else f"{len(bad)} to mend")
    return not bad


def _findings(recipe: str | None) -> Iterator[Finding]:
    from klimb.cli import machine, needs

    for name, probe in (*machine.PROBES.items(), *needs.PROBES.items()):
        yield from safely(name, probe)
    if recipe is not None:
        yield from needs.of_recipe(recipe)


def _line(finding: Finding) -> str:
    sign = {"ok": " ok ", "note": "note", "bad": "BAD "}[finding.state]
    cure = f"; try: {finding.cure}" if finding.cure else ""
    return f"[{sign}] {finding.name:<13} {finding.text}{cure}"
