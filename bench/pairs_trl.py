"""One contestant on preference pairs: TRL's DPOTrainer or RewardTrainer, in its own environment.

Reads a JSON job from its first argument; knows nothing of klimb. Does one optimizer step for each line on stdin, and
answers with one JSON line. The gradient of the first step goes into a folder, a file a parameter.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pairs_agreement import write_gradient
from trl_child import Timers, peak, reply


def settings(job: dict[str, Any], kind: Any, more: dict[str, Any]) -> Any:
    """TRL's settings for the job; `micro` pairs in one forward and backward pass."""
    return kind(
        output_dir=job["folder"], max_steps=job["steps"], learning_rate=job["lr"], lr_scheduler_type="constant",
        per_device_train_batch_size=job["micro"], gradient_accumulation_steps=job["pairs"] // job["micro"],
        bf16=job["bf16"], use_cpu=True, gradient_checkpointing=False, dataloader_pin_memory=False, report_to="none",
        save_strategy="no", logging_steps=1, disable_tqdm=True, adam_beta1=0.9, adam_beta2=0.99, max_grad_norm=1.0,
        seed=job["seed"], max_length=None, **more,
    )  # fmt: skip


def dpo(job: dict[str, Any]) -> Any:
    """The trainer of pairs whose token ids are there already."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class Ready(DPOTrainer):  # type: ignore[misc]
        """Learns from the ids as they are, in their order."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    precompute = {"precompute_ref_log_probs": job["precompute"], "beta": job["beta"]}
    model, reference = (
        AutoModelForCausalLM.from_pretrained(job[n], dtype=torch.float32) for n in ("model", "reference")
    )
    return Ready(
        model=model, ref_model=reference,
        args=settings(job, DPOConfig, precompute), train_dataset=rows_of(job["ids"]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
    )  # fmt: skip


def reward(job: dict[str, Any]) -> Any:
    """The trainer of a reward model that reads prompt and answer without its EOS, as the other side's head does."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    class Ready(RewardTrainer):  # type: ignore[misc]
        """Learns from the pairs in their order."""

        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    model = AutoModelForSequenceClassification.from_pretrained(job["model"], num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(job["head"])[None])
    names = ("chosen_ids", "rejected_ids")
    joined = [{name: row["prompt_ids"] + row[name][:-1] for name in names} for row in job["ids"]]
    return Ready(
        model=model, args=settings(job, RewardConfig, {"center_rewards_coefficient": job["centring"] or None}),
        train_dataset=rows_of(joined), processing_class=AutoTokenizer.from_pretrained(job["model"]),
    )  # fmt: skip


def rows_of(rows: list[dict[str, Any]]) -> Any:
    """The rows as TRL takes them."""
    from datasets import Dataset

    return Dataset.from_list(rows)


def gate(job: dict[str, Any], timers: Timers) -> Any:
    """A callback that waits for the word before a step, and reports once the step's numbers are logged."""
    from transformers import TrainerCallback

    tokens = [len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in job["ids"]]

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
            self.spent = time.perf_counter() - self.start
            self.times = stages(timers.read(), self.spent)

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """The loss of the step is known."""
            logs = kwargs["logs"]
            if "loss" not in logs:
                return
            first = (state.global_step - 1) * job["pairs"]
            reply(
                seconds=self.times, tokens=sum(tokens[first : first + job["pairs"]]), full=0, rows=2 * job["pairs"],
                peak_gb=peak(), loss=exact_loss(logs), grad_norm=float(logs["grad_norm"]),
                logp_chosen=logs.get("logps/chosen"), logp_rejected=logs.get("logps/rejected"),
            )  # fmt: skip

    return Gate()


LOSSES: list[float] = []


def exact_loss(_: dict[str, Any]) -> float:
    """The mean loss of the step's micro-batches; what the trainer logs is rounded."""
    found = sum(LOSSES) / len(LOSSES)
    LOSSES.clear()
    return found


def stages(seconds: dict[str, float], step: float) -> dict[str, float]:
    """The seconds under the names that both sides use."""
    reference = seconds.get("reference", 0.0)
    work = {
        "reference": reference,
        "forward and backward": seconds["loss"] - reference + seconds["backward"],
        "optimizer": seconds["optimize"],
    }
    return work | {"other": step - sum(work.values()), "step": step}


def watch(trainer: Any, timers: Timers, folder: Path) -> None:
    """Times the trainer's own methods, and writes the first gradient before it is clipped."""
    if getattr(trainer, "ref_model", None) is not None:
        timers.wrap(trainer.ref_model, "forward", "reference")
    loss = trainer.compute_loss

    def kept(*args: Any, **words: Any) -> Any:
        found = loss(*args, **words)
        LOSSES.append(float((found[0] if isinstance(found, tuple) else found).detach()))
        return found

    trainer.compute_loss = kept
    timers.wrap(trainer, "compute_loss", "loss")
    timers.wrap(trainer.accelerator, "backward", "backward")
    clip, create = trainer.accelerator.clip_grad_norm_, trainer.create_optimizer

    def clipped(*args: Any, **words: Any) -> Any:
        if not folder.exists():
            for name, parameter in trainer.model.named_parameters():
                write_gradient(folder, name, parameter.grad)
        return clip(*args, **words)

    def created(*args: Any, **words: Any) -> Any:
        made = create(*args, **words)
        timers.wrap(trainer.optimizer, "step", "optimize")
        return made

    trainer.accelerator.clip_grad_norm_, trainer.create_optimizer = clipped, created


def main() -> None:
    """Builds the trainer, then trains; each step waits for a line and reports its times."""
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    torch.set_num_threads(job["threads"])
    start = time.perf_counter()
    trainer, timers = {"dpo": dpo, "reward": reward}[job["what"]](job), Timers()
    watch(trainer, timers, Path(job["folder"]) / "gradient")
    trainer.add_callback(gate(job, timers))
    reply(ready=True, seconds=time.perf_counter() - start)
    trainer.train()


if __name__ == "__main__":
    main()
