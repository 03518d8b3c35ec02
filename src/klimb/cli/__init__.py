"""The command line. Nothing here imports torch, transformers or pydantic before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> None:
    """Runs `klimb` with these words (by default the process's own) and exits with its code."""
    from klimb import cycles
    from klimb.cli.failures import guarded

    cycles.search_rarely()
    given = list(sys.argv[1:] if words is None else words)
    code = guarded(lambda: _run(given), given)
    cycles.search_as_usual()
    if words is None:
        cycles.search_no_more()
    sys.exit(code)


def _run(words: list[str]) -> int:
    """Runs the command without typer's own handling of failures, which would hide Ctrl-C and broken pipes."""
    import typer

    from klimb.cli.app import command

    whole = command()
    try:
        with whole.make_context("klimb", words or ["--help"]) as context:
            answer = whole.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return answer if isinstance(answer, int) else 0
