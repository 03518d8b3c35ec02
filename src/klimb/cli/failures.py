"""How a command fails: one line (or one a fault), its exit code, and never a traceback unless asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from klimb.cli.text import printable
from klimb.errors import KlimbError, SettingsError

UNEXPECTED = 70
"""The exit code of a fault of klimb itself (EX_SOFTWARE)."""
INTERRUPTED = 130
BROKEN_PIPE = 141


def guarded(action: Callable[[], int], words: Sequence[str]) -> int:
    """The exit code of `action`; what it raises is said on stderr."""
    try:
        code = action()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _say("stopped by Ctrl-C", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KlimbError as error:
        return _expected(error)
    except Exception as error:  # noqa: BLE001 whatever it is, a person gets one line and the place of the rest
        return _usage(error, words) or _unexpected(error)
    return code


def _expected(error: KlimbError) -> int:
    if os.environ.get("KLIMB_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, SettingsError) and len(error.faults) > 1:
        lines = [f"{len(error.faults)} faults", *(f"- {fault.line()}" for fault in error.faults)]
        return _say("\n  ".join(lines), error.exit_code)
    return _say(error.line() if not isinstance(error, SettingsError) else str(error), error.exit_code)


def _usage(error: Exception, words: Sequence[str]) -> int:
    """Says what is wrong with the command line itself; 0 where that is not what is wrong."""
    import typer

    if isinstance(error, typer.Abort):
        return _say("stopped", INTERRUPTED)
    if not isinstance(error, typer.BadParameter.__mro__[2]):  # ClickException, wherever typer keeps it
        return 0
    message = str(error.format_message()).strip().rstrip(".")  # type: ignore[attr-defined]
    dashed = next((word for word in words if word.startswith("--") and "=" in word and "." in word), "")
    command = next((word for word in words if not word.startswith("-")), "")
    cure = f"{dashed.lstrip('-')} without dashes" if dashed else f"klimb {command} --help".replace("  ", " ")
    if not dashed and "No such command" in message:
        cure = "klimb --help"
    return _say(f"{message[:1].lower()}{message[1:]}; try: {cure}", 2)


def _unexpected(error: Exception) -> int:
    """Writes the traceback to a file and says where; with KLIMB_DEBUG=1 shows it."""
    import traceback

    what = f"a fault of klimb itself: {type(error).__name__}: {error}".replace("\n", " ")[:400]
    text = "".join(traceback.format_exception(error))
    if os.environ.get("KLIMB_DEBUG") == "1":
        sys.stderr.write(text)
        return _say(what, UNEXPECTED)
    import tempfile

    from klimb.redact import redact_text

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="klimb-", suffix=".traceback", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(redact_text(text))
        where = f"its traceback is in {file.name}"
    except OSError as trouble:
        where = f"its traceback could not be written ({trouble.strerror}): KLIMB_DEBUG=1 shows it"
    return _say(f"{what}; {where}", UNEXPECTED)


def _say(text: str, code: int) -> int:
    """The line on stderr, if there still is one, without secrets and escape codes."""
    from klimb.redact import redact_text

    try:
        sys.stderr.write(printable(redact_text(f"klimb: {text}\n")))
        sys.stderr.flush()
    except (OSError, ValueError):
        return code
    return code
