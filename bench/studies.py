"""What every study shares: its command line, its file, its runs a few at a time, and the intervals of its tables."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import yaml
from scipy import stats

from klimb.evaluation.intervals import Difference, clustered, paired_bootstrap

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
Asked = Mapping[str, float]
"""What one run got for each held-out prompt."""


class Words(argparse.ArgumentParser):
    """The command line of a study, its help taken from the module's docstring."""

    def __init__(self, description: str | None, *, seeds: int, jobs: int, threads: int, words: str) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("study", type=Path)
        self.add_argument("words", nargs="*", metavar="key=value", help=words)
        self.add_argument("--seeds", type=int, default=seeds)
        self.add_argument("--arms", default="", help="names, with commas between; by default all")
        self.add_argument("--out", type=Path, default=None, help="by default runs/<name of the study>")
        self.add_argument(
            "--jobs", type=int, default=jobs, help="runs at the same time; 1 where seconds are to be compared"
        )
        self.add_argument("--threads", type=int, default=threads, help="threads of each run")
        self.add_argument("--table", action="store_true", help="train nothing")

    def read(self) -> tuple[argparse.Namespace, dict[str, Any], Path]:
        """What was asked, the study, and the folder of its runs, which is made."""
        asked = self.parse_intermixed_args()
        out: Path = asked.out or ROOT / "runs" / asked.study.stem
        out.mkdir(parents=True, exist_ok=True)
        return asked, yaml.safe_load(asked.study.read_text("utf-8")), out


def run_all(train: Callable[[T], str], runs: Sequence[T], jobs: int) -> None:
    """Trains so many runs at a time, and prints the line of each in their order."""
    with ThreadPoolExecutor(jobs) as pool:
        for line in pool.map(train, runs):
            print(line, flush=True)


def train(command: Sequence[str], run: Path, threads: int) -> str:
    """Trains a run in a process of its own, its words in a log beside it; a line that says how it ended."""
    log = run.parent / f"{run.name}.log"
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False).returncode
    return f"{run.name}: {'done' if code == 0 else f'ended with code {code}, see {log}'}"


def interval(values: Sequence[float], digits: int = 3) -> str:
    """The mean over the seeds with its 95 % interval (Student's t); the value alone where there is one seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def over_prompts(runs: Sequence[Asked]) -> tuple[float, float, float]:
    """The mean over all runs and prompts, and its 95 % interval over resampled prompts, each with all its runs."""
    return clustered([value for run in runs for value in run.values()], [name for run in runs for name in run])


def less(mine: Sequence[Asked], theirs: Sequence[Asked]) -> Difference:
    """The mean difference from other runs, paired by prompt: each has the mean of its runs, and all must have it."""
    one, other = by_prompt(mine), by_prompt(theirs)
    shared = [name for name in one if name in other]
    return paired_bootstrap([other[name] for name in shared], [one[name] for name in shared])


def by_prompt(runs: Sequence[Asked]) -> dict[str, float]:
    """The mean over the runs for each prompt that all of them have."""
    return {name: fmean(run[name] for run in runs) for name in runs[0] if all(name in run for run in runs)}


def spent() -> str:
    """The processor time of all that this call ran, runs that were there already left out."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"{(used.ru_utime + used.ru_stime) / 60:.1f} CPU minutes, {os.cpu_count()} cores"
