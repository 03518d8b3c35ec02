"""Token selectors against their controls: one recipe, equal steps, several seeds; held-out accuracy at the last step.

Usage: python bench/selection_study.py [--recipe FILE --seeds N --steps N --arms every random bottom top --share R]
       [--out DIR]. A run that is there is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from klimb.config import apply_words, dump, resolve
from klimb.evaluation.intervals import wilson
from klimb.recipe import Recipe, load_recipe
from klimb.run import train
from klimb.rundir import RunDir

ARMS = ("every", "random", "bottom", "top")
ROOT = Path(__file__).resolve().parents[1]
HEAD = (
    "| arm | held-out accuracy, last step | by seed | entropy | length | s a step |\n| --- | --- | --- "
    + 3 * "| ---: "
    + "|"
)


def recipe_of(base: Recipe, arm: str, share: float, seed: int, steps: int) -> Recipe:
    """The recipe with another selector, seed and number of steps."""
    settings = dump(base)
    settings["selector"] = {"type": arm} if arm == "every" else {"type": arm, "share": share}
    return resolve(Recipe, apply_words(settings, [f"seed={seed}", f"training.steps={steps}"], Recipe))


def row(arm: str, runs: list[Path]) -> str:
    """One line of the table; the interval is Wilson's over all held-out answers of all seeds."""
    lines = [RunDir.open(run).read_metrics() for run in runs]
    last = [line[-1] for line in lines]
    n = sum(int(line["eval/n"]) for line in last)
    right = sum(round(line["eval/accuracy"] * line["eval/n"]) for line in last)
    low, high = wilson(right, n)
    seeds = " ".join(f"{line['eval/accuracy']:.1%}" for line in last)
    entropy, length = (fmean(line[name] for line in last) for name in ("policy/entropy", "length/mean"))
    spent = fmean(line["time/step"] for one in lines for line in one[1:])
    share = f"{right / n:.1%} ({low:.1%} to {high:.1%}) of {n}"
    return f"| {arm} | {share} | {seeds} | {entropy:.3f} | {length:.1f} | {spent:.2f} |"


def main() -> None:
    """Runs every arm with every seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default=str(ROOT / "recipes" / "dapo-forking.yaml"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--out", type=Path, default=Path("runs/selection-study"))
    asked = parser.parse_args()
    base = load_recipe(asked.recipe)
    done: dict[str, list[Path]] = {arm: [] for arm in asked.arms}
    for seed in range(asked.seeds):
        for arm in asked.arms:
            path = asked.out / f"{arm}-{seed}"
            train(recipe_of(base, arm, asked.share, seed, asked.steps), run=path)
            done[arm].append(path)
    print(HEAD)
    for arm, runs in done.items():
        print(row(arm, runs))


if __name__ == "__main__":
    main()
