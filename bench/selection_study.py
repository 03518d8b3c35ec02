"""Token selectors against their controls: trains every arm with every seed, and prints what each has reached.

Usage: python bench/selection_study.py STUDY.yaml [--seeds N] [--arms a,b] [--out FOLDER] [--jobs N] [--threads N]
       [--table] [KEY=VALUE ...]
A study is a YAML file as `objectives.py` reads it. Each run has a directory of its own, so a study that was stopped
goes on where it was. `--table` only reads what is there. Accuracy is over all held-out answers of all seeds, with
Wilson's interval: problems are drawn, seeds are not. CPU minutes are of what this call ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from studies import Words, run_all, spent, train

from klimb.evaluation.intervals import wilson
from objectives import Arm, arms_of, lines_of

HEAD = "| arm | held-out accuracy, last step | by seed | before | entropy | tokens an answer | kept | s a step |\n"
RULE = "| --- | --- | --- | --- " + 4 * "| ---: " + "|"


def row(arm: str, runs: Sequence[Path]) -> str:
    """One line of the table; an arm whose runs did not all end says so."""
    found = [lines for run in runs if (lines := lines_of(run)) is not None]
    if len(found) < len(runs):
        return f"| {arm} | {len(found)} of {len(runs)} ended | | | | | | |"
    first, last = [lines[0] for lines in found], [lines[-1] for lines in found]
    n = sum(int(line["eval/n"]) for line in last)
    right = sum(round(line["eval/accuracy"] * line["eval/n"]) for line in last)
    low, high = wilson(right, n)
    seeds = " ".join(f"{line['eval/accuracy']:.1%}" for line in last)
    before = fmean(line["eval/accuracy"] for line in first)
    entropy, length = (fmean(line[name] for line in last) for name in ("policy/entropy", "eval/length"))
    kept = fmean(line.get("selection/share", 1.0) for line in last)
    steps = [line["time/step"] - line.get("time/evaluate", 0.0) for lines in found for line in lines if line["step"]]
    share = f"{right / n:.1%} ({low:.1%} to {high:.1%}) of {n}"
    rest = f"{before:.1%} | {entropy:.3f} | {length:.1f} | {kept:.3f} | {median(steps):.2f}"
    return f"| {arm} | {share} | {seeds} | {rest} |"


def table(arms: Sequence[Arm], out: Path) -> str:
    """The study's table in Markdown."""
    names = dict.fromkeys(arm.name for arm in arms)
    return HEAD + "\n".join([RULE, *(row(name, [arm.run(out) for arm in arms if arm.name == name]) for name in names)])


def main() -> None:
    """Runs what is missing of a study, then prints its table."""
    args, study, out = Words(__doc__, seeds=2, jobs=1, threads=1, words="settings over all arms").read()
    arms = arms_of(study, args.seeds, args.arms, args.words)
    if not args.table:
        run_all(lambda arm: train(arm.command(out), arm.run(out), args.threads), arms, args.jobs)
    print(f"{table(arms, out)}\n\n{spent()}")


if __name__ == "__main__":
    main()
