"""TensorBoard: event files in the run directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from klimb.rundir import RunDir
from klimb.tracking.base import Quiet, Sink, Tracker


class TensorBoard(Tracker):
    """Writes `tensorboard/` in the run directory: `tensorboard --logdir RUN/tensorboard`."""

    type: Literal["tensorboard"] = "tensorboard"
    package: ClassVar[str] = "tensorboard"

    def open(self, run: RunDir) -> Sink:
        return _TensorBoard(str(run.tensorboard))


class _TensorBoard(Quiet):
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.writer: Any = None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Opens the files; what an earlier attempt wrote after `step` is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.folder, purge_step=step + 1 if step else None)
        self.writer.add_text("settings", f"```\n{json.dumps(config, indent=2, sort_keys=True)}\n```", step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar a metric, readable at once."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def finish(self, report: Mapping[str, Any]) -> None:
        """Closes the files."""
        self.writer.close()
