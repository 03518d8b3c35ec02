"""What every study shares: its command line, its file, its runs a few at a time, and the intervals of its tables."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")


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


def spent() -> str:
    """The processor time of all that this call ran, runs that were there already left out."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"{(used.ru_utime + used.ru_stime) / 60:.1f} CPU minutes, {os.cpu_count()} cores"
