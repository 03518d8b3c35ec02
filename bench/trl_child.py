"""One contestant: TRL's GRPOTrainer, in its own environment. Does one optimizer step for each line it reads.

Reads a JSON job from its first argument; knows nothing of klimb. Answers each line on stdin with one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever the libraries print goes to the log

from rewarding import value  # noqa: E402


def reply(**fields: object) -> None:
    """Sends one JSON line to the parent."""
    REPLIES.write(json.dumps(fields) + "\n")
    REPLIES.flush()


class Timers:
    """Seconds by stage, added up by wrapping the trainer's own methods."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def wrap(self, owner: object, method: str, stage: str) -> None:
        """From now on the time inside `owner.method` counts as `stage`."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **words: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **words)
            finally:
                self.seconds[stage] += time.perf_counter() - start

        setattr(owner, method, timed)

    def read(self) -> dict[str, float]:
        """The seconds since the last reading."""
        seconds, self.seconds = dict(self.seconds), defaultdict(float)
        return seconds


def reward(completions: list[list[dict[str, str]]], **_: object) -> list[float]:
    """The same reward as the other side's."""
    return [value(completion[0]["content"]) for completion in completions]


def settings(job: dict[str, Any]) -> Any:
    """TRL's settings for the job; `micro` completions in one forward and backward pass."""
    from trl import GRPOConfig

    rows = job["prompts"] * job["completions"]
    return GRPOConfig(
        output_dir=job["folder"], max_steps=job["steps"], learning_rate=job["lr"], lr_scheduler_type="constant",
        per_device_train_batch_size=job["micro"], gradient_accumulation_steps=rows // job["micro"],
        num_generations=job["completions"], max_completion_length=job["tokens"], temperature=1.0,
        beta=0.0, bf16=job["bf16"], use_cpu=True, gradient_checkpointing=False, shuffle_dataset=False,
        dataloader_pin_memory=False, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
        adam_beta1=0.9, adam_beta2=0.99, max_grad_norm=1.0, seed=job["seed"],
    )  # fmt: skip


class Counts:
    """Completion tokens and rows of the last experience, counted on its way through."""

    def __init__(self, score: Callable[[Any], Any], limit: int) -> None:
        self.score, self.limit, self.seen = score, limit, dict[str, int]()

    def __call__(self, inputs: Any) -> Any:
        """TRL's own method, and the counts of what it gave."""
        out = self.score(inputs)
        mask = out["completion_mask"]
        self.seen = {
            "tokens": int(mask.sum()),
            "full": int((mask.sum(1) == self.limit).sum()),
            "rows": len(mask),
        }
        return out


def trainer_of(job: dict[str, Any]) -> Any:
    """TRL's trainer on the job's model and prompts."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOTrainer

    torch.set_num_threads(job["threads"])
    chats = [{"prompt": [{"role": "user", "content": text}]} for text in job["questions"]]
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
        reward_funcs=reward,
        args=settings(job),
        train_dataset=Dataset.from_list(chats),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
    )


def gate(timers: Timers, counts: Counts) -> Any:
    """A callback that waits for the word before a step, and reports after it."""
    from transformers import TrainerCallback

    class Gate(TrainerCallback):
        """Waits and reports."""

        def on_step_begin(self, *_: object, **__: object) -> None:
            """Before the first micro-batch of a step."""
            if not sys.stdin.readline():
                sys.exit("the parent is gone")
            timers.read()
            self.start = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            """After the optimizer's step."""
            step = time.perf_counter() - self.start
            reply(seconds=stages(timers.read(), step), peak_gb=peak(), **counts.seen)

    return Gate()


def main() -> None:
    """Builds the trainer, then trains; each step waits for a line and reports its times."""
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    trainer, timers = trainer_of(job), Timers()
    counts = Counts(trainer._generate_and_score_completions, job["tokens"])
    trainer._generate_and_score_completions = counts
    timers.wrap(trainer, "_generate_single_turn", "sample")
    timers.wrap(trainer, "_get_per_token_logps_and_entropies", "logps")
    timers.wrap(trainer.accelerator, "backward", "backward")
    trainer.add_callback(gate(timers, counts))
    create = trainer.create_optimizer

    def created(*args: Any, **words: Any) -> Any:
        made = create(*args, **words)
        timers.wrap(trainer.optimizer, "step", "optimize")
        return made

    trainer.create_optimizer = created
    reply(ready=True)
    trainer.train()


def stages(seconds: dict[str, float], step: float) -> dict[str, float]:
    """The seconds under the names that both sides use."""
    work = {
        "sampling": seconds["sample"],
        "forward and backward": seconds["logps"] + seconds["backward"],
        "optimizer": seconds["optimize"],
    }
    training = work["forward and backward"] + work["optimizer"]
    return work | {"training": training, "other": step - sum(work.values()), "step": step, "forward": seconds["logps"]}


def peak() -> float:
    """The most memory this process ever held, in GB (VmHWM)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
