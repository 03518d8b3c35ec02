"""DPO and HyPO at equal steps: held-out implicit accuracy, reverse KL, the score of a judge that none of them sees.

Usage: python bench/preference_study.py STUDY.yaml [--seeds N] [--steps N] [--judge-steps N] [--arms a,b] [--out FOLDER]
       [--jobs N] [--threads N] [--table] [--plot FILE.svg] [KEY=VALUE ...]
A study is a YAML file: `recipe` (a recipe's name) with `words` for all arms, `arms` (settings of each), `judge_recipe`
with `judge` (settings of the reward model), and `split`: how many prompts the judge learns from and how many are held
out, and the most characters of a prompt and of an answer. The three sides share no prompt. The judge is trained first,
then every arm of every seed, each in a directory of its own, so that a study that was stopped goes on where it was.
`--table` only reads what is there. All arms and seeds are asked the same held-out prompts: intervals are over resampled
prompts (dialogues by their first question), each with all its seeds; seeds are not resampled. Every arm is compared
with the first one, prompt by prompt.
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
from studies import Asked, Words, less, over_prompts, run_all, spent

from klimb import rollouts
from klimb.rewards.reward_model import RewardModel
from klimb.rundir import RunDir
from klimb.types import Group, Prompt

MEASURES = {
    "implicit accuracy": "held-out implicit accuracy",
    "reverse KL": "KL(pi || initial) on held-out prompts, nats an answer",
    "judge's score": "judge's score",
}
"""What is measured of each held-out prompt, by its name in the table, and what a plot calls it."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one run has reached at its last evaluation. `asked`: each measure, by held-out prompt."""

    line: Mapping[str, Any]
    asked: Mapping[str, Asked]
    seconds: float


def judged(judge: Path, runs: Sequence[Run], out: Path) -> dict[str, dict[str, float]]:
    """The judge's score of each held-out sample of each ended run, by its prompt's id; kept in a file."""
    file = out / "judged.json"
    known: dict[str, dict[str, float]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    lasts = [path for run in runs if (path := _last(run.path(out)))]
    ends = {f"{path.parent.parent.name}/{path.name}": path for path in lasts}
    if new := {key: path for key, path in ends.items() if key not in known}:
        with RewardModel(path=judge).open() as scorer:
            for key, path in new.items():
                groups = rollouts.read(path)
                scores = scorer([group.prompt for group in groups], [g.rollouts[0].completion for g in groups])
                pairs = zip(groups, scores, strict=True)
                known[key] = {group.prompt.id: one.value for group, one in pairs if one.value is not None}
        file.write_text(json.dumps(known), "utf-8")
    return {key.partition("/")[0]: known[key] for key in ends}


def _last(run: Path) -> Path | None:
    """The samples of the last evaluation of a run that has ended."""
    found = [] if not (run / "study.json").exists() else sorted((run / "evaluations").glob("step-*.parquet"))
    return found[-1] if found else None


def points(runs: Sequence[Run], scores: Mapping[str, Asked], out: Path) -> dict[str, list[Point]]:
    """What every arm has reached, a point a seed."""
    found: dict[str, list[Point]] = {}
    for run in runs:
        path = run.path(out)
        if path.name in scores and (last := _last(path)):
            lines = RunDir.open(path).read_metrics()
            spent = sum(line["time/step"] - line.get("time/evaluate", 0.0) for line in lines if line["step"])
            asked = measured(rollouts.read(last), scores[path.name])
            found.setdefault(run.arm, []).append(Point(lines[-1], asked, spent))
    return found


def measured(groups: Sequence[Group], scores: Asked) -> dict[str, Asked]:
    """Each measure of a run's last evaluation; rows that ask the same first question are one prompt, by their mean."""
    gaps, far = (noted(groups, name) for name in ("eval/implicit_gap", "eval/kl"))
    right = {name: 0.5 if gap == 0 else float(gap > 0) for name, gap in gaps.items()}
    names = {group.prompt.id: first_question(group.prompt) for group in groups}
    return {
        measure: {
            question: fmean(values[name] for name in values if names[name] == question)
            for question in dict.fromkeys(names[name] for name in values)
        }
        for measure, values in zip(MEASURES, (right, far, scores), strict=True)
    }


def noted(groups: Sequence[Group], name: str) -> dict[str, float]:
    """What was noted of each held-out answer under a metric's name, by its prompt's id."""
    found = {group.prompt.id: group.rollouts[0].scores.get(name) for group in groups}
    return {prompt: one.value for prompt, one in found.items() if one is not None and one.value is not None}


def first_question(prompt: Prompt) -> str:
    """How a dialogue begins, or the whole text of a prompt."""
    said = [turn.content for turn in prompt.messages if turn.role == "user"]
    return said[0] if said else prompt.text or ""


def table(found: Mapping[str, Sequence[Point]], control: str) -> str:
    """One line for each arm: means over the seeds with 95 % intervals, each less the control's, paired by prompt."""
    names = [f"{measure} | less `{control}`" for measure in MEASURES]
    head = ["arm", "seeds", *" | ".join(names).split(" | "), "length", "cut off", "seconds"]
    rows = ["| " + " | ".join(head) + " |", "| --- " + (len(head) - 1) * "| ---: " + "|"]
    for arm, some in found.items():
        cells = [cell for measure in MEASURES for cell in _cells(measure, some, found.get(control, some))]
        cells += [f"{fmean(one.line['eval/length'] for one in some):.1f}"]
        cells += [f"{fmean(one.line['eval/truncated'] for one in some):.0%}", f"{fmean(p.seconds for p in some):.0f}"]
        rows.append(f"| {arm} | {len(some)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cells(measure: str, some: Sequence[Point], control: Sequence[Point]) -> tuple[str, str]:
    mine, theirs = ([one.asked[measure] for one in points] for points in (some, control))
    mean, low, high = over_prompts(mine)
    apart = less(mine, theirs)
    change = "" if some is control else f"{apart.mean:+.3f} ({apart.low:+.3f} to {apart.high:+.3f})"
    return f"{mean:.3f} ({low:.3f} to {high:.3f})", change


def plot(found: Mapping[str, Sequence[Point]], file: Path) -> None:
    """Implicit accuracy and the judge's score against the reverse KL: a cross an arm, as large as its intervals."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    far, *others = MEASURES["reverse KL"], "implicit accuracy", "judge's score"
    for axis, measure in zip(axes, others, strict=True):
        for arm, some in found.items():
            (x, left, right), (y, low, high) = (
                over_prompts([one.asked[name] for one in some]) for name in ("reverse KL", measure)
            )
            axis.errorbar(x, y, [[y - low], [high - y]], [[x - left], [right - x]], fmt="o", capsize=3, label=arm)
        axis.set_xlabel(far)
        axis.set_ylabel(MEASURES[measure])
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
    control = next((run.arm for run in runs if run.arm != "initial"), "initial")
    print(f"{table(found, control)}\n\n{spent()}")
    if asked.plot:
        plot(found, asked.plot)


if __name__ == "__main__":
    main()
