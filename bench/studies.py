"""What every study shares: its command line, its file, and its runs a few at a time."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import yaml

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
