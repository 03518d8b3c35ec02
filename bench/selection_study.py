"""Token selectors against their controls: trains every arm with every seed, and prints what each has reached.

Usage: python bench/selection_study.py STUDY.yaml [--seeds N] [--arms a,b] [--out FOLDER] [--jobs N] [--threads N]
       [--table] [KEY=VALUE ...]
A study is a YAML file as `objectives.py` reads it; `start`, if there is one, are the settings of a run that comes
first, and whose last policy is the model of every arm. Each run has a directory of its own, so a study that was stopped
goes on where it was. `--table` only reads what is there. All seeds and arms are asked the same held-out problems:
intervals are over resampled problems, each with the answers of all its seeds; seeds are not resampled. CPU minutes are
of what this call ran.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pairing import difference, mean
from studies import ROOT, Words, run_all, spent, train

from objectives import Arm, arms_of, lines_of

HEAD = (
    "| arm | held-out accuracy, last step | by seed | less `{}` | steps that learned | entropy | tokens an answer "
    "| kept | s a step |\n"
)
RULE = "| --- | --- | --- | --- " + 5 * "| ---: " + "|"


def row(arm: str, runs: Sequence[Path], control: Sequence[Path]) -> str:
    """One line of the table; an arm whose runs did not all end says so."""
    found = [lines for run in runs if (lines := lines_of(run)) is not None]
    if len(found) < len(runs):
        return f"| {arm} | {len(found)} of {len(runs)} ended | | | | | | | |"
    share, low, high, count = mean(runs)
    seeds = " ".join(f"{mean([run])[0]:.1%}" for run in runs)
    cells = [f"{share:.1%} ({low:.1%} to {high:.1%}) of {count}", seeds, against(runs, control)]
    last = [lines[-1] for lines in found]
    cells.append(f"{fmean(sum('optim/grad_norm' in line for line in lines) for lines in found):.1f}")
    cells += [
        f"{fmean(line['policy/entropy'] for line in last):.3f}",
        f"{fmean(line['eval/length'] for line in last):.1f}",
    ]
    cells.append(f"{fmean(line.get('selection/share', 1.0) for line in last):.3f}")
    steps = [line["time/step"] - line.get("time/evaluate", 0.0) for lines in found for line in lines if line["step"]]
    return f"| {arm} | {' | '.join([*cells, f'{median(steps):.2f}'])} |"


def against(runs: Sequence[Path], control: Sequence[Path]) -> str:
    """The difference of accuracy from the control with its interval (paired by problem); empty for the control."""
    if runs == control or any(lines_of(run) is None for run in control):
        return ""
    more, low, high = difference(runs, control)
    return f"{more:+.1%} ({low:+.1%} to {high:+.1%})"


def table(arms: Sequence[Arm], out: Path) -> str:
    """The study's table in Markdown; its first arm is the control of the others."""
    runs = {
        name: [arm.run(out) for arm in arms if arm.name == name] for name in dict.fromkeys(arm.name for arm in arms)
    }
    control = next(iter(runs))
    return HEAD.format(control) + "\n".join([RULE, *(row(name, some, runs[control]) for name, some in runs.items())])


def begun(start: Arm, arms: Sequence[Arm], out: Path, threads: int, ask: bool) -> list[Arm]:
    """Trains the run that comes first, unless `ask` is false; the arms with its last policy as their model."""
    run = start.run(out)
    if ask:
        print(train(start.command(out), run, threads), flush=True)
    lines, models = lines_of(run, "eval/length"), sorted((run / "checkpoints").glob("step-*/model"))
    if lines is None or not models:
        sys.exit(f"the run that comes first has not ended: see {run}.log")
    last = lines[-1]
    if "eval/accuracy" in last:
        tokens = f"{last['eval/length']:.1f} tokens an answer"
        print(f"before: {last['eval/accuracy']:.1%} of {last['eval/n']:.0f}, {tokens}")
    return [replace(arm, words=(*arm.words, f"model.name={models[-1]}")) for arm in arms]


def prepared(study: Mapping[str, Any], args: argparse.Namespace, out: Path) -> list[Arm]:
    """The arms that are asked for; where a run comes first, after it, with its last policy as their model."""
    arms = arms_of(study, args.seeds, args.arms, args.words)
    if not (first := study.get("start")):
        return arms
    recipe = str(ROOT / "recipes" / f"{study['recipe']}.yaml")
    start = Arm("start", 0, recipe, (*study.get("words", ()), *args.words, *first))
    return begun(start, arms, out, args.threads, not args.table)


def main() -> None:
    """Runs what is missing of a study, then prints its table."""
    args, study, out = Words(__doc__, seeds=2, jobs=1, threads=1, words="settings over all arms").read()
    out = out.resolve()
    arms = prepared(study, args, out)
    if not args.table:
        run_all(lambda arm: train(arm.command(out), arm.run(out), args.threads), arms, args.jobs)
    print(f"{table(arms, out)}\n\n{spent()}")


if __name__ == "__main__":
    main()
