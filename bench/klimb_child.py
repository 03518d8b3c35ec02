"""One contestant: klimb, driven by a recipe. Does one optimizer step for each line it reads.

Reads a JSON job from its first argument. Answers each line on stdin with one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever the libraries print goes to the log

from work import recipe  # noqa: E402

from klimb import run  # noqa: E402
from klimb.tracking.hub import Tracking  # noqa: E402


class Gated(Tracking):
    """A run's log that waits for the word before each step, and reports after it."""

    def event(self, kind: str, **fields: Any) -> None:
        """The model is loaded when the run says which policy it has: ready."""
        super().event(kind, **fields)
        if kind == "policy":
            reply(ready=True)
            self.wait()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is done."""
        super().log(step, metrics)
        reply(
            seconds=stages(metrics, time.perf_counter() - self.begun),
            tokens=int(metrics["tokens/sampled"]),
            full=round(metrics["length/truncated"] * ROWS),
            rows=ROWS,
            peak_gb=peak(),
        )
        self.wait()

    def wait(self) -> None:
        """Sleeps until the parent sends a line; ends with the parent."""
        if not sys.stdin.readline():
            sys.exit("the parent is gone")
        self.begun = time.perf_counter()


def reply(**fields: object) -> None:
    """Sends one JSON line to the parent."""
    REPLIES.write(json.dumps(fields) + "\n")
    REPLIES.flush()


def stages(metrics: Mapping[str, float], step: float) -> dict[str, float]:
    """The seconds under the names that both sides use; new weights for the sampler count as sampling."""
    work = {
        "sampling": metrics["time/sample"] + metrics.get("time/sync", 0.0),
        "forward and backward": metrics["time/train"],
        "optimizer": metrics["time/optimize"],
    }
    training = work["forward and backward"] + work["optimizer"]
    return work | {"training": training, "other": step - sum(work.values()), "step": step}


def peak() -> float:
    """The most memory that this process and its living children ever held, in GB (the sum of VmHWM)."""
    own = os.getpid()
    family = [own, *map(int, Path(f"/proc/{own}/task/{own}/children").read_text("utf-8").split())]
    return sum(high_water(Path(f"/proc/{member}/status")) for member in family)


def high_water(status: Path) -> float:
    """VmHWM of one process in GB, 0 where it is gone."""
    try:
        lines = status.read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    JOB = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    ROWS = JOB["prompts"] * JOB["completions"]
    FOLDER = Path(JOB["folder"])
    import torch

    torch.set_num_threads(JOB["threads"])
    vars(run)["Tracking"] = Gated
    run.train(recipe(JOB, FOLDER), run=FOLDER / "run")
