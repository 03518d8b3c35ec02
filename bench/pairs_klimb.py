"""One contestant on preference pairs: klimb, driven by a recipe. Does one optimizer step for each line it reads.

Reads a JSON job from its first argument. Answers each line on stdin with one JSON line. The gradient of the first step
goes into a folder, a file a parameter.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import klimb_child  # sends what the libraries print to the log
import torch
from pairs_agreement import write_gradient
from pairs_work import head, recipe

from klimb import crew, run
from klimb.policy.policy import Policy
from klimb.session import Session
from klimb.training.optimizer import MasterAdamW


class Pairwise(klimb_child.Gated):
    """A run's log that waits for the word before each step, and reports after it."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is done."""
        super(klimb_child.Gated, self).log(step, metrics)
        spent = time.perf_counter() - self.begun
        klimb_child.reply(
            seconds=stages(metrics, spent), tokens=int(metrics["tokens/trained"]), full=0, rows=ROWS,
            peak_gb=klimb_child.peak(), loss=metrics["loss"], grad_norm=metrics["optim/grad_norm"],
            logp_chosen=metrics.get("preference/logp_chosen"), logp_rejected=metrics.get("preference/logp_rejected"),
        )  # fmt: skip
        self.wait()


def stages(metrics: Mapping[str, float], step: float) -> dict[str, float]:
    """The seconds under the names that both sides use."""
    work = {
        "reference": metrics.get("time/reference", 0.0),
        "forward and backward": metrics["time/train"],
        "optimizer": metrics["time/optimize"],
    }
    return work | {"other": step - sum(work.values()), "step": step}


def keep_first_gradient(folder: Path) -> None:
    """Writes the gradient of the first update, before it is clipped."""
    update = MasterAdamW.step

    def step(self: MasterAdamW, lr: float, norm: float) -> None:
        if self.count == 0:
            for name, gradient in self.gradients().items():
                write_gradient(folder, {"critic.weight": "score.weight"}.get(name, name), gradient)
        update(self, lr, norm)

    vars_of(MasterAdamW, "step", step)


def begin_with_head() -> None:
    """The value head begins with the weights that the other side has, too."""
    add = Policy.add_critic

    def added(self: Policy, moves_trunk: bool = True) -> Any:
        critic = add(self, moves_trunk)
        with torch.no_grad():
            critic.weight.copy_(head(critic.weight.numel()))
        return critic

    vars_of(Policy, "add_critic", added)


def begin_with_reference(name: str) -> None:
    """The reference is the model in this folder, as on the other side."""
    load = vars(crew)["_reference"]

    def other(session: Session) -> Any:
        model = session.recipe.model.model_copy(update={"name": name})
        return load(replace(session, recipe=session.recipe.model_copy(update={"model": model})))

    vars(crew)["_reference"] = other


def vars_of(owner: type, name: str, value: Any) -> None:
    """Puts a function in place of a class's own."""
    setattr(owner, name, value)


if __name__ == "__main__":
    JOB = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    ROWS = 2 * JOB["pairs"]
    FOLDER = Path(JOB["folder"])
    torch.set_num_threads(JOB["threads"])
    vars(run)["Tracking"] = Pairwise
    keep_first_gradient(FOLDER / "gradient")
    begin_with_head()
    if JOB["what"] == "dpo":
        begin_with_reference(JOB["reference"])
    run.train(recipe(JOB, FOLDER), run=FOLDER / "run")
