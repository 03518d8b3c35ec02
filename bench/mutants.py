"""Mutation testing of `functional`, `objectives` and `proving`: is every small change of the code noticed by a test?

Usage: python bench/mutants.py [--sample N] [--seed S] [--only WORD] [--jobs N] [--floor PERCENT]
PyTorch is imported once; each mutant is a fork of that process, which runs the tests that go through its function.
What it found: docs/mutants.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from mutant_tests import Tests, run_tests
from mutations import File, Mutant

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("functional", "objectives", "proving")
KILLED = ("killed", "timeout")
ASLEEP = 1800.0
"""Seconds after which a mutant that waits for something is stopped; one that computes is stopped by its own limit."""


def words() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sample", type=int, metavar="N", default=400, help="so many mutants by chance; 0 = all (default 400)")
    add("--seed", type=int, metavar="S", default=0, help="which ones (default 0)")
    add("--only", metavar="WORD", default="", help="only of files with WORD in their path")
    add("--jobs", type=int, metavar="N", default=os.cpu_count() or 1, help="processes at a time")
    add("--floor", type=float, metavar="PERCENT", default=90.0, help="exit 1 where fewer are killed (default 90)")
    add("--again", action="store_true", help="ask again about mutants that survived an earlier run")
    add("--list", action="store_true", help="count the mutants and stop")
    return parser.parse_args()


def chosen(asked: argparse.Namespace) -> list[Mutant]:
    """The mutants that are asked for, in a random order."""
    paths = [path for name in PACKAGES for path in sorted((ROOT / "src/klimb" / name).glob("*.py"))]
    files = [File(ROOT, path) for path in paths if asked.only in str(path.relative_to(ROOT))]
    counts = Counter[str]()
    for file in files:
        counts[file.name.split("/")[2]] += len(file)
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"{counts.total()} places for a mutant: {told}", flush=True)
    every = [(file, index) for file in files for index in range(len(file))]
    random.Random(asked.seed).shuffle(every)
    if asked.list:
        return []
    made = (file.mutant(index) for file, index in every)
    return list(islice((one for one in made if one is not None), asked.sample or None))


@dataclass
class Worker:
    """A fork that tests one mutant."""

    mutant: Mutant
    began: float


class Results:
    """What became of each mutant, kept in a file line by line, so that a stopped run goes on."""

    def __init__(self, path: Path, again: bool) -> None:
        self.path, self.known = path, dict[str, dict[str, Any]]()
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            one = json.loads(line)
            self.known[one["name"]] = one
        if again:
            self.known = {name: one for name, one in self.known.items() if one["status"] in KILLED}

    def add(self, mutant: Mutant, status: str, seconds: float) -> None:
        """Writes one down."""
        one = {
            "name": mutant.name, "status": status, "seconds": round(seconds, 1), "before": mutant.before,
            "after": mutant.after,
        }  # fmt: skip
        self.known[mutant.name] = one
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")


def test_all(mutants: list[Mutant], tests: Tests, results: Results, jobs: int) -> None:
    """Forks a worker for each mutant, so many at a time."""
    waiting = [one for one in mutants if one.name not in results.known][::-1]
    running: dict[int, Worker] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            plan, seconds = tests.plan(mutant)
            if not plan:
                results.add(mutant, "no tests", 0.0)
                continue
            pid = os.fork()
            if pid == 0:
                os.setsid()
                os._exit(run_tests(ROOT, mutant, plan, limit=30 + 5 * int(seconds)))
            running[pid] = Worker(mutant, time.monotonic())
        if running:
            _reap(running, results, len(waiting))


def _reap(running: dict[int, Worker], results: Results, waiting: int) -> None:
    time.sleep(0.02)
    for pid, worker in list(running.items()):
        spent = time.monotonic() - worker.began
        if asleep := spent > ASLEEP:
            os.killpg(pid, signal.SIGKILL)
        done, code = os.waitpid(pid, 0 if asleep else os.WNOHANG)
        if done:
            del running[pid]
            late = asleep or (os.WIFSIGNALED(code) and os.WTERMSIG(code) == signal.SIGXCPU)
            status = "timeout" if late else "survived" if code == 0 else "killed"
            results.add(worker.mutant, status, spent)
            if status == "survived":
                one = worker.mutant
                print(f"[{waiting} to go] {one.path}:{one.line}: {one.before}  ->  {one.after}", flush=True)


def told(mutants: list[Mutant], results: Results) -> float:
    """Prints the score of each package and of the whole; the latter in percent."""
    shares = [0.0]
    for name in (*PACKAGES, ""):
        found = [results.known[one.name]["status"] for one in mutants if f"klimb/{name}" in one.path]
        counts, killed = Counter(found), sum(status in KILLED for status in found)
        shares.append(100 * killed / max(1, len(found)))
        print(f"{name or 'all':12} {len(found):5} mutants, {killed:5} killed = {shares[-1]:5.1f} %  {dict(counts)}")
    return shares[-1]


def main() -> int:
    """Exit code 1 where fewer mutants were killed than there should be."""
    asked, began = words(), time.monotonic()
    mutants = chosen(asked)
    if asked.list:
        return 0
    here = ROOT / ".mutants"
    here.mkdir(exist_ok=True)
    tests = Tests.known(ROOT, here / "tests.json")
    results = Results(here / "results.jsonl", asked.again)
    test_all(mutants, tests, results, asked.jobs)
    score = told(mutants, results)
    print(f"{time.monotonic() - began:.0f} s; survivors are explained in docs/mutants.md")
    return int(score < asked.floor)


if __name__ == "__main__":
    sys.exit(main())
