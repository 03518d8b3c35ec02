"""DPO and HyPO at equal steps: held-out implicit accuracy, reverse KL, the score of a judge that none of them sees.

Usage: python bench/preference_study.py STUDY.yaml [--seeds N] [--steps N] [--judge-steps N] [--arms a,b] [--out FOLDER]
       [--jobs N] [--threads N] [--table] [--plot FILE.svg] [KEY=VALUE ...]
A study is a YAML file: `recipe` (a recipe's name) with `words` for all arms, `arms` (settings of each), `judge_recipe`
with `judge` (settings of the reward model), and `split`: how many prompts the judge learns from and how many are held
out, and the most characters of a prompt and of an answer. The three sides share no prompt. The judge is trained first,
then every arm of every seed, each in a directory of its own, so that a study that was stopped goes on where it was.
`--table` only reads what is there.
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

from preference_runs import runs_of, split, trained
from replay_study import Run
from studies import Words, run_all, spent

from klimb import rollouts
from klimb.evaluation.intervals import normal, wilson
from klimb.rewards.reward_model import RewardModel
from klimb.rundir import RunDir

HEAD = (
    "| arm | seeds | implicit accuracy | reverse KL, nats | judge's score | length | cut off | seconds |\n| --- "
    + 7 * "| ---: "
    + "|"
)
Spread = tuple[float, float, float]
"""A mean and the ends of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one run has reached at its last evaluation. `scores`: of each held-out answer, by the judge."""

    line: Mapping[str, Any]
    scores: tuple[float, ...]
    seconds: float


def judged(judge: Path, runs: Sequence[Run], out: Path) -> dict[str, list[float]]:
    """The judge's scores of each run's last held-out samples, kept in a file. Raises KlimbError."""
    file = out / "judged.json"
    known: dict[str, list[float]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    lasts = [path for run in runs if (path := _last(run.path(out)))]
    ends = {f"{path.parent.parent.name}/{path.name}": path for path in lasts}
    if new := {key: path for key, path in ends.items() if key not in known}:
        with RewardModel(path=judge).open() as scorer:
            for key, path in new.items():
                asked = [(group.prompt, one.completion) for group in rollouts.read(path) for one in group.rollouts]
                scores = scorer([prompt for prompt, _ in asked], [done for _, done in asked])
                known[key] = [score.value for score in scores if score.value is not None]
        file.write_text(json.dumps(known), "utf-8")
    return {key.partition("/")[0]: known[key] for key in ends}


def _last(run: Path) -> Path | None:
    """The samples of the last evaluation of a run that has ended."""
    found = [] if not (run / "study.json").exists() else sorted((run / "evaluations").glob("step-*.parquet"))
    return found[-1] if found else None


def points(runs: Sequence[Run], scores: Mapping[str, Sequence[float]], out: Path) -> dict[str, list[Point]]:
    """What every arm has reached, a point a seed."""
    found: dict[str, list[Point]] = {}
    for run in runs:
        path = run.path(out)
        if path.name in scores:
            lines = RunDir.open(path).read_metrics()
            spent = sum(line["time/step"] - line.get("time/evaluate", 0.0) for line in lines if line["step"])
            found.setdefault(run.arm, []).append(Point(lines[-1], tuple(scores[path.name]), spent))
    return found


def accuracy(some: Sequence[Point]) -> Spread:
    """Over the held-out pairs of all seeds, with Wilson's interval."""
    n = sum(int(one.line["eval/pairs"]) for one in some)
    right = sum(one.line["eval/implicit_accuracy"] * one.line["eval/pairs"] for one in some)
    return (right / n, *wilson(round(right), n))


def divergence(some: Sequence[Point]) -> Spread:
    """The mean over the seeds; its interval is over the held-out prompts, seeds taken as independent draws."""
    mean = fmean(one.line["eval/kl"] for one in some)
    half = sum((one.line["eval/kl_high"] - one.line["eval/kl"]) ** 2 for one in some) ** 0.5 / len(some)
    return mean, mean - half, mean + half


def score(some: Sequence[Point]) -> Spread:
    """The judge's mean score over the held-out samples of all seeds; 0, 1 = mean and spread of the pairs' answers."""
    return normal([value for one in some for value in one.scores])


def table(found: Mapping[str, Sequence[Point]]) -> str:
    """One line for each arm: means over the seeds with 95 % intervals, and the seeds' own KL."""
    rows = []
    for arm, some in found.items():
        spreads = (accuracy(some), divergence(some), score(some))
        parts = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in spreads]
        rest = [fmean(one.line[name] for one in some) for name in ("eval/length", "eval/truncated")]
        seconds = fmean(one.seconds for one in some)
        rows.append(f"| {arm} | {len(some)} | {' | '.join(parts)} | {rest[0]:.1f} | {rest[1]:.0%} | {seconds:.0f} |")
    return "\n".join([HEAD, *rows])


def plot(found: Mapping[str, Sequence[Point]], file: Path) -> None:
    """Implicit accuracy and the judge's score against the reverse KL: a cross an arm, as large as its intervals."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for axis, (label, of) in zip(
        axes, (("held-out implicit accuracy", accuracy), ("judge's score", score)), strict=True
    ):
        for arm, some in found.items():
            (x, left, right), (y, low, high) = divergence(some), of(some)
            axis.errorbar(x, y, [[y - low], [high - y]], [[x - left], [right - x]], fmt="o", capsize=3, label=arm)
        axis.set_xlabel("KL(pi || initial) on held-out prompts, nats an answer")
        axis.set_ylabel(label)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    """Trains what is missing, lets the judge score it, and prints the table."""
    what = "settings over those of every arm"
    parser = Words(__doc__, seeds=2, jobs=1, threads=os.cpu_count() or 1, words=what)
    parser.add_argument("--steps", type=int, default=0, help="steps of each arm; by default those of the study")
    parser.add_argument("--judge-steps", type=int, default=0)
    parser.add_argument("--plot", type=Path, default=None, metavar="FILE.svg")
    asked, study, out = parser.read()
    out = out.resolve()
    judge, runs = runs_of(study, split(study, out), asked)
    for part in ([judge], runs) if not asked.table else ():
        run_all(lambda run: trained(run, out, asked.threads, run is judge), part, asked.jobs)
    folders = sorted((judge.path(out) / "checkpoints").glob("step-*/model"))
    if not folders:
        sys.exit(f"no judge in {judge.path(out)}: see {judge.path(out).name}.log there")
    last = RunDir.open(judge.path(out)).read_metrics()[-1]
    share = f"{last['eval/reward_accuracy']:.1%} ({last['eval/reward_low']:.1%} to {last['eval/reward_high']:.1%})"
    print(f"\nThe judge prefers people's choice in {share} of the held-out pairs; people prefer the longer answer in")
    print(f"{last['eval/longer_wins']:.1%}.\n")
    found = points(runs, judged(folders[-1], runs, out), out)
    print(f"{table(found)}\n\n{spent()}")
    if asked.plot:
        plot(found, asked.plot)


if __name__ == "__main__":
    main()
