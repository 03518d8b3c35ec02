"""The terminal: a live view on a TTY, one plain line a step elsewhere, JSON lines on request (KLIMB_LOG=json)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import IO, Any

from klimb.rundir import RunDir
from klimb.tracking.base import Quiet, Sink
from klimb.tracking.stages import brief, span
from klimb.tracking.visible import visible

SHOWN = {
    "reward": "reward/mean",
    "accuracy": "eval/accuracy",
    "format": "eval/format",
    "kl": "policy/kl_ref",
    "moved": "policy/kl_old",
    "entropy": "policy/entropy",
    "length": "length/mean",
    "gap": "policy/gap",
    "loss": "loss",
    "grad": "optim/grad_norm",
}
"""What people see of a step: a short word -> the metric."""

KINDS = ("live", "plain", "json", "quiet")


def console_sink(run: RunDir, steps: int, kind: str = "", stream: IO[str] | None = None) -> Sink:
    """The view that fits: `kind`, else KLIMB_LOG, else live on a terminal and plain elsewhere."""
    out = stream or sys.stdout
    wanted = kind or os.environ.get("KLIMB_LOG", "").strip().lower()
    if wanted not in KINDS:
        wanted = "live" if out.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    if wanted == "live":
        from klimb.tracking.live import Live  # rich is wanted here only

        return Live(str(run.path), steps, out)
    return {"plain": Plain, "json": Json, "quiet": Silent}[wanted](steps, out)


class Lines(Quiet):
    """Writes one line at a time, whole; letters that the terminal cannot show are escaped."""

    def __init__(self, steps: int, out: IO[str]) -> None:
        self.steps, self.out = steps, out

    def line(self, text: str) -> None:
        """Writes one line, now."""
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        self.out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self.out.flush()

    def close(self) -> None:
        """Nothing to free."""


class Silent(Lines):
    """Says nothing."""


class Plain(Lines):
    """`step 12/60  reward 0.41  accuracy 37.1 %  ...  4.10 s`."""

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Says where the run goes on, if it does."""
        if step:
            self.line(f"going on after step {step} of {self.steps}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line a step."""
        parts = [f"{word} {brief(name, metrics[name])}" for word, name in SHOWN.items() if name in metrics]
        if "time/step" in metrics:
            parts.append(span(metrics["time/step"]))
        self.line(f"step {step}/{self.steps}  " + "  ".join(parts))

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """One line an event."""
        self.line(event_line(kind, fields))


class Json(Lines):
    """One JSON object a line, for other programs."""

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """The first line."""
        self._write({"kind": "start", "step": step, "steps": self.steps})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line a step."""
        self._write({"kind": "step", "step": step, "metrics": dict(metrics)})

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """One line an event."""
        self._write({"kind": "event", "event": kind, "fields": dict(fields)})

    def finish(self, report: Mapping[str, Any]) -> None:
        """The last line."""
        self._write({"kind": "finish", "report": dict(report)})

    def _write(self, record: Mapping[str, Any]) -> None:
        self.line(json.dumps(record, sort_keys=True, allow_nan=False))


def event_line(kind: str, fields: Mapping[str, Any]) -> str:
    """An event on one harmless line; the settings of an alert's rule stand in the file only."""
    told = {name: value for name, value in fields.items() if (kind, name) != ("alert", "settings")}
    details = "  ".join(f"{name}: {value}" for name, value in told.items() if value not in (None, "", [], {}))
    return visible(f"{kind.replace('_', ' ')}  {details}".rstrip(), lines=False, limit=300)
