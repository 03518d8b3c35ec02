"""Trains every arm of a study on one task, several seeds each, and prints what each has reached at its last step.

Usage: bench/objectives.sh STUDY.yaml [--seeds N] [--arms a,b] [--out FOLDER] [--jobs N] [--table] [KEY=VALUE ...]
A study is a YAML file: `recipe` (a recipe's name), `words` (settings for all arms) and `arms` (settings of each). Every
run has a directory of its own, so a study that was stopped goes on where it was. `--table` only reads what is there.
CPU minutes are of what this call ran.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from studies import ROOT, Words, interval, run_all, spent, train

NUMBERS = {
    "accuracy": "eval/accuracy", "entropy": "policy/entropy", "length": "eval/length", "scores": "outcome/asked"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Arm:
    """One objective of a study, and one seed."""

    name: str
    seed: int
    recipe: str
    words: tuple[str, ...]

    def run(self, out: Path) -> Path:
        """Where its run lies."""
        return out / f"{self.name}-{self.seed}"

    def command(self, out: Path) -> list[str]:
        """The command that trains it, or goes on with it."""
        run = [f"run={self.run(out)}", f"seed={self.seed}"]
        return [sys.executable, "-m", "klimb.cli", "train", self.recipe, *self.words, *run]


def arms_of(study: Mapping[str, Any], seeds: int, chosen: str, more: Sequence[str]) -> list[Arm]:
    """Every arm of a study with every seed, all arms of a seed together."""
    names = chosen.split(",") if chosen else list(study["arms"])
    if unknown := sorted(set(names) - set(study["arms"])):
        sys.exit(f"no arm {', '.join(unknown)} in the study; there are {', '.join(study['arms'])}")
    shared = (*study.get("words", ()), *more)
    recipe = str(ROOT / "recipes" / f"{study['recipe']}.yaml")
    return [Arm(name, seed, recipe, (*shared, *study["arms"][name])) for seed in range(seeds) for name in names]


def measure(runs: Sequence[Path]) -> None:
    """KL(last || initial) of each run that has none yet, all in one process: most of it would be start-up."""
    missing = [str(run) for run in runs if not (run / "divergence.json").exists()]
    if missing:
        command = [sys.executable, str(Path(__file__).with_name("divergence.py")), *missing]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def lines_of(run: Path, measured: str = "eval/accuracy") -> list[dict[str, float]] | None:
    """The metrics of a finished run; None where it is not finished, or not measured after its last step."""
    if not (run / "metrics.jsonl").exists():
        return None
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = json.loads((run / "config.json").read_text("utf-8"))["settings"]["training"]["steps"]
    return lines if lines and lines[-1]["step"] == steps and measured in lines[-1] else None


def reached(run: Path) -> dict[str, float] | None:
    """What a finished run has at its last step, KL(last || initial) in nats a token; None where it is not finished."""
    lines = lines_of(run)
    if lines is None:
        return None
    last = [line for line in lines if "policy/entropy" in line][-1]
    step = float(np.median([line["time/step"] - line.get("time/evaluate", 0.0) for line in lines if line["step"] > 0]))
    found = {name: float({**last, **lines[-1]}.get(metric, math.nan)) for name, metric in NUMBERS.items()}
    kl = float(json.loads((run / "divergence.json").read_text("utf-8"))["kl"])
    return found | {"start": float(lines[0]["eval/accuracy"]), "kl": kl, "seconds": step}


def table(arms: Sequence[Arm], out: Path) -> str:
    """The study's table in Markdown; an arm whose runs did not all end says so."""
    lines = [
        "| arm | seeds | accuracy at the last step | before | KL to initial | entropy | length | scores | s a step |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(arm.name for arm in arms):
        runs = [arm.run(out) for arm in arms if arm.name == name]
        found = [one for run in runs if (one := reached(run)) is not None]
        if not found:
            lines.append(f"| {name} | 0 of {len(runs)} ended | | | | | | | |")
            continue
        columns = [
            [one[key] for one in found] for key in ("accuracy", "start", "kl", "entropy", "length", "scores", "seconds")
        ]
        accuracy, start, kl, entropy, length, scores, seconds = columns
        ended = str(len(found)) if len(found) == len(runs) else f"{len(found)} of {len(runs)} ended"
        means = [
            f"{np.mean(start):.3f}",
            interval(kl),
            f"{np.mean(entropy):.2f}",
            f"{np.mean(length):.1f}",
            f"{np.mean(scores):.0f}",
        ]
        row = [name, ended, interval(accuracy), *means, f"{np.median(seconds):.2f}"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing of a study, then prints its table."""
    words = Words(__doc__, seeds=5, jobs=os.cpu_count() or 1, threads=1, words="settings over all arms")
    args, study, out = words.read()
    arms = arms_of(study, args.seeds, args.arms, args.words)
    if not args.table:
        run_all(lambda arm: train(arm.command(out), arm.run(out), args.threads), arms, args.jobs)
    measure([arm.run(out) for arm in arms if lines_of(arm.run(out)) is not None])
    print(f"{table(arms, out)}\n\n{spent()}")


if __name__ == "__main__":
    main()
