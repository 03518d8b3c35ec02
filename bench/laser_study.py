"""LASeR against its controls: trains every arm with every seed; prints what each has reached, and what it paid for it.

Usage: python bench/laser_study.py STUDY.yaml [--seeds N] [--arms a,b] [--out FOLDER] [--jobs N] [--threads N]
       [--table] [KEY=VALUE ...]
A study is a YAML file as `selection_study.py` reads it. Each run has a directory of its own, so a study that was
stopped goes on where it was; `--table` only reads what is there. The first arm is what the others are compared with: by
prompt (the interval is over resampled prompts, each with all its seeds) and by seed (Student's t, from three seeds).
`scores` are those that a run's arms and the judge of its gain gave in training, summed over its steps; a source that is
measured and used by nobody is not counted, nor is held-out evaluation. `mean score` is shown where what says what is
correct gives more than 0 and 1. A second table counts, for each side of the prompts, which source a bandit chose.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import laser_choices
import pyarrow.parquet as pq
from pairing import Of, answers, difference, mean, right, score, settings
from selection_study import prepared
from studies import Words, interval, run_all, spent, train

from objectives import Arm, lines_of


def paid(asked: dict[str, Any]) -> tuple[set[str], str]:
    """The sources that a run with these settings learns from, and the judge of its gain ('' where it has none)."""
    return set(laser_choices.arms(asked)), str(asked["combining"].get("judge", ""))


def asked(run: Path) -> Counter[str]:
    """How many scores each source gave in training: of all steps, failed ones too."""
    found = Counter[str]()
    for file in sorted((run / "rollouts").glob("*.parquet")):
        for text in pq.read_table(file, columns=["scores"]).column("scores").to_pylist():
            found.update(list(json.loads(text)))
    return found


def scores(run: Path) -> tuple[int, int]:
    """The scores of a run's arms, and those of its judge."""
    (arms, judge), given = paid(settings(run)), asked(run)
    return sum(given[name] for name in arms), given[judge]


def by_seed(runs: Sequence[Path], control: Sequence[Path], of: Of) -> str:
    """The difference of the means of each seed: with its interval, or one by one where there are fewer than three."""
    more = [mean([mine], of)[0] - mean([theirs], of)[0] for mine, theirs in zip(runs, control, strict=True)]
    return interval(more) if len(more) > 2 else " ".join(f"{one:+.3f}" for one in more)


def cells(runs: Sequence[Path], control: Sequence[Path], of: Of, sides: Sequence[str]) -> list[str]:
    """The mean with its interval over prompts, that of each side, the differences from the control."""
    found = ["{:.3f} ({:.3f} to {:.3f})".format(*mean(runs, of)[:3])]
    found += ["{:.3f} ({:.3f} to {:.3f})".format(*mean(runs, of, side)[:3]) for side in sides]
    if runs == control or any(lines_of(run) is None for run in control):
        return [*found, "", ""]
    return [*found, "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference(runs, control, of)), by_seed(runs, control, of)]


def row(arm: str, runs: Sequence[Path], control: Sequence[Path], sides: Sequence[str], graded: bool) -> str:
    """One line of the table; an arm whose runs did not all end says so."""
    found = [lines for run in runs if (lines := lines_of(run)) is not None]
    if len(found) < len(runs):
        return f"| {arm} | {len(found)} of {len(runs)} ended |" + (7 + len(sides) + 3 * graded) * " |"
    counted = [scores(run) for run in runs]
    steps = [line["time/step"] - line.get("time/evaluate", 0.0) for lines in found for line in lines if line["step"]]
    last = [
        f"{fmean(sum(both) for both in counted):.0f}", f"{fmean(judge for _, judge in counted):.0f}",
        f"{fmean(lines[-1]['policy/entropy'] for lines in found):.2f}", f"{median(steps):.2f}"
    ]  # fmt: skip
    each = " ".join(f"{mean([run])[0]:.3f}" for run in runs)
    reached = cells(runs, control, right, sides) + (cells(runs, control, score, ()) if graded else [])
    return f"| {' | '.join([arm, each, *reached, *last])} |"


def table(arms: Sequence[Arm], out: Path) -> str:
    """The study's tables in Markdown; its first arm is what the others are compared with."""
    runs = {
        name: [arm.run(out) for arm in arms if arm.name == name] for name in dict.fromkeys(arm.name for arm in arms)
    }
    first = next(iter(runs))
    found = [one for run in runs[first] if lines_of(run) is not None for one in answers(run).values()]
    sides, graded = sorted({one.side for one in found} - {""}), any(one.score not in (0, 1) for one in found)
    less = [f"less `{first}`, by prompt", f"less `{first}`, by seed"]
    heads = ["arm", "accuracy by seed", "accuracy", *sides, *less, *(["mean score", *less] if graded else [])]
    heads += ["scores", "of these the judge's", "entropy", "s a step"]
    lines = [f"| {' | '.join(heads)} |", "|" + len(heads) * " --- |"]
    lines += [row(name, some, runs[first], sides, graded) for name, some in runs.items()]
    ended = {name: some for name, some in runs.items() if all(lines_of(run) is not None for run in some)}
    return "\n".join(lines) + f"\n\n{laser_choices.table(ended)}".rstrip()


def main() -> None:
    """Runs what is missing of a study, then prints its table."""
    words = Words(__doc__, seeds=5, jobs=os.cpu_count() or 1, threads=1, words="settings over all arms")
    args, study, out = words.read()
    out = out.resolve()
    arms = prepared(study, args, out)
    if not args.table:
        run_all(lambda arm: train(arm.command(out), arm.run(out), args.threads), arms, args.jobs)
    print(f"{table(arms, out)}\n\n{spent()}")


if __name__ == "__main__":
    main()
