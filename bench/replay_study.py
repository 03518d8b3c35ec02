"""What a log alone teaches, by objective, and what replay saves while sampling goes on: trains it all, prints tables.

Usage: python bench/replay_study.py STUDY.yaml [--seeds N] [--arms a,b] [--log-steps N] [--out FOLDER] [--jobs N]
       [--threads N] [--table] [--plot FILE.svg] [KEY=VALUE ...]
A study is a YAML file: `recipe` (a recipe's name), `words` (settings for all runs), `log` (settings of the run that
writes the log: the initial model, whose rate is 0), `offline` and `online` (settings of each arm). The log of a seed is
written first, then every arm of it is trained. Each run has a directory of its own, so a study that was stopped goes on
where it was. `--table` only reads what is there. CPU minutes are of what this call ran. Columns of the end (the
mean of the last four steps that have it): `effective`, the effective sample size of whole answers over their number;
`clipped`, the share of tokens whose gradient a clip cut off.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from studies import ROOT, Words, interval, run_all, spent, train

Line = Mapping[str, Any]
ENDS = {"effective": ("replay/effective", "policy/effective"), "clipped": ("policy/clip_share",)}
"""What stands of the end of a run, by column: the first of these metrics that it has."""
LAST = 4
"""So many of the last steps are the end: a step's effective size is a noisy number."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the study: the log of a seed, or one arm of it."""

    kind: str
    arm: str
    seed: int
    recipe: str
    words: tuple[str, ...]

    def path(self, out: Path) -> Path:
        """Where it lies."""
        return out / f"{self.kind}-{self.arm}-{self.seed}"

    def log(self, out: Path) -> Path:
        """Where the log of its seed lies."""
        return out / f"log-initial-{self.seed}"

    def command(self, out: Path) -> list[str]:
        """The command that trains it, or goes on with it; `LOG` in a setting stands for the log of its seed."""
        words = [word.replace("LOG", str(self.log(out))) for word in self.words]
        place = [f"run={self.path(out)}", f"seed={self.seed}"]
        return [sys.executable, "-m", "klimb.cli", "train", self.recipe, *words, *place]


def runs_of(study: Mapping[str, Any], seeds: int, chosen: str, more: Sequence[str], log_steps: int) -> list[Run]:
    """All runs, those that write logs first."""
    recipe = str(ROOT / "recipes" / f"{study['recipe']}.yaml")
    arms = {(kind, arm): words for kind in ("offline", "online") for arm, words in study.get(kind, {}).items()}
    names = chosen.split(",") if chosen else [arm for _, arm in arms]
    if unknown := sorted(set(names) - {arm for _, arm in arms}):
        sys.exit(f"no arm {', '.join(unknown)} in the study; there are {', '.join(arm for _, arm in arms)}")
    steps = (f"training.steps={log_steps}",) if log_steps else ()
    writing = (*study.get("words", ()), *study.get("log", ()), *steps)
    logs = [Run("log", "initial", seed, recipe, writing) for seed in range(seeds)]
    return logs + [
        Run(kind, arm, seed, recipe, (*study.get("words", ()), *words, *more))
        for seed in range(seeds)
        for (kind, arm), words in arms.items()
        if arm in names
    ]


def curve(run: Run, out: Path) -> list[tuple[int, float, float]]:
    """(step, held-out accuracy, seconds of training until then, evaluations left out) of a run; empty where none is.

    What the initial model knew is taken from the run that wrote the log of this seed, where the arm did not ask it.
    """
    found, spent = [], 0.0
    mine = _lines(run.path(out))
    start = _lines(run.log(out))[:1] if mine and "eval/accuracy" not in mine[0] else []
    for line in (*start, *mine):
        spent += line["time/step"] - line.get("time/evaluate", 0.0) if line["step"] else 0.0
        if "eval/accuracy" in line:
            found.append((int(line["step"]), float(line["eval/accuracy"]), spent))
    return found


def at_end(run: Run, out: Path, names: Sequence[str]) -> float | None:
    """The mean of the last values of the first of these metrics that a run has; None where it has none of them."""
    lines = _lines(run.path(out))
    found = ([line[name] for line in lines if line.get(name) is not None] for name in names)
    return next((fmean(values[-LAST:]) for values in found if values), None)


def _lines(path: Path) -> list[Line]:
    file = path / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def table(kind: str, runs: Sequence[Run], out: Path) -> str:
    """Accuracy in percent at each evaluated step, by arm, in Markdown; then `ENDS`, and a whole run's seconds."""
    mine = [run for run in runs if run.kind == kind]
    arms = dict.fromkeys(run.arm for run in mine)
    curves = {arm: [c for run in mine if run.arm == arm and (c := curve(run, out))] for arm in arms}
    steps = sorted({step for some in curves.values() for one in some for step, _, _ in one})
    head = [kind, "seeds", *(f"step {step}" for step in steps), *ENDS, "seconds"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for arm in arms:
        at = [[accuracy for one in curves[arm] for s, accuracy, _ in one if s == step] for step in steps]
        whole = [one[-1][2] for one in curves[arm] if one[-1][0] == steps[-1]]
        cells = [interval([100 * value for value in values], 1) if values else "" for values in at]
        for names in ENDS.values():
            ends = [end for run in mine if run.arm == arm and (end := at_end(run, out, names)) is not None]
            cells.append(interval(ends, 2) if ends else "none")
        row = [arm, str(len(curves[arm])), *cells, f"{np.mean(whole):.0f}" if whole else "not ended"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def plot(runs: Sequence[Run], out: Path, file: Path) -> None:
    """Accuracy against steps for the offline arms, against seconds for the online ones; means over the seeds."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, (kind, place, label) in zip(axes, (("offline", 0, "steps"), ("online", 2, "seconds")), strict=True):
        for arm in dict.fromkeys(run.arm for run in runs if run.kind == kind):
            every = [curve(run, out) for run in runs if run.arm == arm and run.kind == kind]
            if not every or not all(every) or len({len(one) for one in every}) > 1:
                continue
            mean = np.mean(np.array(every), axis=0)
            axis.plot(mean[:, place], 100 * mean[:, 1], label=arm, marker="o")
        axis.set_xlabel(label)
        axis.set_title(kind)
        axis.legend()
    axes[0].set_ylabel("held-out accuracy, %")
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    """Writes the logs and runs the arms that are missing, then prints the tables."""
    what = "settings over those of every arm, not of the log"
    parser = Words(__doc__, seeds=2, jobs=1, threads=os.cpu_count() or 1, words=what)
    parser.add_argument("--log-steps", type=int, default=0, help="steps of the run that writes the log")
    parser.add_argument("--plot", type=Path, default=None, metavar="FILE.svg")
    args, study, out = parser.read()
    runs = runs_of(study, args.seeds, args.arms, args.words, args.log_steps)
    for part in ("log", "arms") if not args.table else ():
        now = [run for run in runs if (run.kind == "log") is (part == "log")]
        run_all(lambda run: train(run.command(out), run.path(out), args.threads), now, args.jobs)
    print("\n\n".join(table(kind, runs, out) for kind in ("offline", "online") if any(r.kind == kind for r in runs)))
    print(f"\n{spent()}")
    if args.plot:
        plot(runs, out, args.plot)


if __name__ == "__main__":
    main()
