"""A run directory made up for tests: numbers that are easy to find again."""

from __future__ import annotations

import json
from pathlib import Path

from klimb import rollouts
from klimb.rundir import RunDir
from klimb.types import Completion, Finish, Group, Message, Prompt, Rollout, Score, Transform

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[31mred\x1b]0;title\x07 \u202egnp.exe\u2066 </pre>"
)


def group(number: int, text: str, right: bool, prompt: str = "") -> Group:
    done = Completion((5, 6, 7), (-0.5, -0.25, -1.0), text, Finish.EOS, (0.1, 0.2, 0.3))
    messages = (Message("user", prompt or f"What is {number} + 1?"),)
    reward = float(right)
    rollout = Rollout(done, 0, number, {"exact": Score.of(reward)}, reward)
    return Group(Prompt(f"p{number}", messages, None, str(number + 1), {}, (1, 2)), (rollout,), Transform(), "v")


def synthetic(path: Path, steps: int = 60, every: int = 20, text: str = "") -> RunDir:
    """A whole run: metrics, evaluations, events, an environment; `text` is put wherever text can be."""
    settings = {"model": {"name": text or "smollm2-135m"}, "training": {"steps": steps}, "seed": 7}
    environment = {"argv": ["/usr/bin/klimb", "train", "recipes/demo.yaml", f"run={text or 'runs/a b'}"], "cores": 2}
    run = RunDir.create(path, {"settings": settings, "data": "0", "klimb": "0"}, environment)
    with run.own():
        run.event("started", note=text)
        for step in range(steps + 1):
            run.append_metrics(record(step, steps, every))
            if step % every == 0:
                share = 2 + 6 * step // steps
                answers = [group(n, text or f"answer {n} at {step}", n < share, text) for n in range(10)]
                rollouts.write(run.evaluation(step), answers, step)
        run.event("skipped", step=12, what=text or "loss was not finite")
    return run


def record(step: int, steps: int, every: int) -> dict[str, float]:
    """The metrics of one step."""
    part = step / steps
    line: dict[str, float] = {"step": step, "time/step": 4.0, "memory/peak_gb": 2.0 + part}
    if step:
        line |= {"reward/mean": 0.1 + 0.5 * part, "policy/entropy": 1.5 - part, "policy/kl_ref": 0.02 * part}
        line |= {
            "length/mean": 90 - 60 * part,
            "policy/gap": 0.021,
            "loss": 0.01,
            "time/sample": 1.25,
            "time/train": 2.5,
        }
    if step % every == 0:
        accuracy = 0.05078125 + 0.32 * part
        line |= {"eval/accuracy": accuracy, "eval/low": accuracy - 0.03, "eval/high": accuracy + 0.04}
        line |= {"eval/format": 0.5 + 0.4 * part, "eval/n": 256, "eval/failed": 3, "eval/length": 88.5}
        line["time/evaluate"] = 0.2
    return line


def numbers_of(run: RunDir) -> list[dict[str, float]]:
    """The metrics file, read by hand."""
    return [json.loads(line) for line in run.metrics_file.read_text("utf-8").splitlines()]
