"""The run directory: everything a run leaves, in files that people and programs read (design D7)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from klimb.atomic import sweep, sync_folder, write_atomic
from klimb.errors import RunError
from klimb.lock import Lock
from klimb.records import DISCARDED, append_line, drop_torn_line, keep_until, plain, pretty, read_json, read_lines
from klimb.redact import redact

__all__ = ["RunDir", "pretty", "step_name", "step_of"]


class RunDir:
    """One run's folder. Reading needs nothing; to write, be inside `own()`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.events_file = self.path / "events.jsonl"
        self.report_file = self.path / "report.html"
        self.lock_file = self.path / "lock"
        self.rollouts = self.path / "rollouts"
        self.evaluations = self.path / "evaluations"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"

    @classmethod
    def create(
        cls, path: Path | str, config: Mapping[str, Any], environment: Mapping[str, Any] | None = None
    ) -> RunDir:
        """Makes the folder with config.json and environment.json. Raises RunError where something is already."""
        run = cls(path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"a folder at {path}", error.strerror or str(error), "another run=DIR") from error
        with run.own():
            if run.exists:
                raise RunError(f"a new run in {path}", "a run is there", "open it, or name another run=DIR")
            if strangers := run._strangers():
                raise RunError(f"a new run in {path}", f"other files there: {strangers[:3]}", "an empty folder")
            for folder in (run.rollouts, run.evaluations, run.checkpoints):
                folder.mkdir(exist_ok=True)
            write_atomic(run.environment_file, pretty(environment or {}))
            write_atomic(run.config_file, pretty(config))
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunDir:
        """A run that is there. Raises RunError where there is none."""
        run = cls(path)
        if not run.exists:
            found = "no config.json there" if run.path.is_dir() else "no such folder"
            raise RunError(f"a run in {path}", found, "the folder that `klimb train` named, or run=DIR")
        return run

    @property
    def exists(self) -> bool:
        """Whether a run was created here."""
        return self.config_file.is_file()

    @contextmanager
    def own(self) -> Iterator[RunDir]:
        """This process alone may write the run while inside. Raises RunError naming the owner where another does."""
        lock = Lock(self.lock_file)
        stale = lock.take()
        try:
            for path in (self.metrics_file, self.events_file):
                drop_torn_line(path)
            if stale and self.exists:
                self.event("lock_taken_over", owner=stale)
            yield self
        finally:
            lock.release()

    def _strangers(self) -> list[str]:
        """What stands in the folder and was not left by a `create` that was killed."""
        left = {self.lock_file, self.environment_file, *self.path.glob(".*.tmp")}
        folders = {folder for folder in (self.rollouts, self.evaluations, self.checkpoints) if _empty(folder)}
        return sorted(path.name for path in set(self.path.iterdir()) - left - folders)

    def rollout(self, step: int) -> Path:
        """The file of the rollouts of a step."""
        return self.rollouts / f"{step_name(step)}.parquet"

    def discarded(self, step: int) -> Path:
        """The file of what was drawn for a step and not learned from."""
        return self.rollouts / f"{step_name(step)}{DISCARDED}"

    def evaluation(self, step: int) -> Path:
        """The file of the evaluation after a step (0 = before training)."""
        return self.evaluations / f"{step_name(step)}.parquet"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after a step."""
        return self.checkpoints / step_name(step)

    def config(self) -> dict[str, Any]:
        """What the run began with: settings, the hashes of data and files. Raises RunError where it cannot be read."""
        return read_json(self.config_file)

    def settings(self) -> dict[str, Any]:
        """The resolved settings, with the day on which the run began (`model.date`) also where it did not keep that."""
        settings: dict[str, Any] = self.config().get("settings", {})
        model = settings.get("model")
        if isinstance(model, dict) and "date" not in model and (events := self.read_events()):
            model["date"] = datetime.fromisoformat(events[0]["time"]).astimezone().date().isoformat()
        return settings

    def environment(self) -> dict[str, Any]:
        """Versions, machine and command of the first attempt; empty where nothing was written."""
        return read_json(self.environment_file) if self.environment_file.is_file() else {}

    def append_metrics(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Adds one line, flushed, and returns it; what is not finite becomes null and an event. Needs `step`."""
        names: list[str] = []
        line = {name: plain(value, name, names) for name, value in record.items()}
        if not isinstance(line.get("step"), int):
            raise ValueError(f"a metrics record needs an integer step, not {record.get('step')!r}")
        if names:
            self.event("not_finite", step=line["step"], names=sorted(names))
        append_line(self.metrics_file, line)
        return line

    def event(self, kind: str, /, **fields: Any) -> None:
        """Adds one line to events.jsonl: the time (UTC), the kind, the fields; secrets are blotted out."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        append_line(self.events_file, {**redact(plain(fields)), "time": time, "kind": kind})

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every whole line of metrics.jsonl in order. Raises RunError for a broken line that is not the last."""
        return read_lines(self.metrics_file)

    def read_events(self) -> list[dict[str, Any]]:
        """Every whole line of events.jsonl in order."""
        return read_lines(self.events_file)

    def sync(self) -> None:
        """Makes the metrics and events durable; called before a checkpoint is sealed."""
        for path in (self.metrics_file, self.events_file):
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(self.path)

    def truncate_after(self, step: int) -> None:
        """Removes metrics, rollouts and evaluations later than `step`, and leftovers: the run goes on from there."""
        for folder in (self.path, self.rollouts, self.evaluations):
            folder.mkdir(exist_ok=True)
            sweep(folder)
        for folder in (self.rollouts, self.evaluations):
            for path in folder.glob("step-*.parquet"):
                if step_of(path) > step:
                    path.unlink()
            sync_folder(folder)
        keep_until(self.metrics_file, step)


def step_name(step: int) -> str:
    """`step-000012`."""
    return f"step-{step:06d}"


def step_of(path: Path) -> int:
    """The step in the name of a rollouts file, evaluation or checkpoint. Raises RunError."""
    digits = path.name.partition(".")[0].removeprefix("step-")
    if not (digits.isascii() and digits.isdigit()):
        raise RunError("a name like step-000012", path.name, "move it out of the run directory")
    return int(digits)


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
