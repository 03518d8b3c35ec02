"""Which tests go through which lines, and what a fork does to test one mutant."""

from __future__ import annotations

import contextlib
import hashlib
import importlib._bootstrap_external as loading
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import numpy as np
import pydantic
import pytest
import scipy.stats
import torch
from mutations import Mutant

PRELOADED = (coverage, hypothesis, np, pydantic, pytest, scipy.stats, torch)
"""What every fork finds imported; klimb itself is not among it, since it is what changes."""
SUITE = (
    "tests/functional", "tests/objectives", "tests/proving", "tests/laws", "tests/selection", "tests/sources",
    "tests/logs/test_inspect.py", "tests/training/test_step.py", "tests/training/test_critic.py",
    "tests/training/test_carrying.py", "tests/learning/test_preference_recipes.py",
)  # fmt: skip
COMMON = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not model"]
PER_FILE, ALTOGETHER = 30.0, 90.0
"""Seconds of tests that a mutant must outlive: of one file, and of all."""

Plan = list[tuple[str, list[str]]]


@dataclass(frozen=True, slots=True)
class Tests:
    """The seconds of each test, and which tests go through each line of each file."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    @classmethod
    def known(cls, root: Path, file: Path) -> Tests:
        """As found earlier of the same code and tests, or found now in a fork."""
        texts = sorted([*(root / "src").rglob("*.py"), *(root / "tests").rglob("*.py")])
        key = hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest()
        if not file.exists() or json.loads(file.read_text("utf-8"))["key"] != key:
            pid = os.fork()
            if pid == 0:
                os._exit(_watch(root, file, key))
            if os.waitpid(pid, 0)[1]:
                raise SystemExit("the tests do not pass without a mutant; mend them first")
        found = json.loads(file.read_text("utf-8"))
        lines = {path: {int(n): tests for n, tests in at.items()} for path, at in found["lines"].items()}
        return cls(found["seconds"], lines)

    def plan(self, mutant: Mutant) -> tuple[Plan, float]:
        """The tests through the mutant's function, file by file, the quickest first; and how long they take.

        Of what stands in no function, those through any function of its file.
        """
        at = self.lines.get(mutant.path, {})
        first, last = mutant.span or (0, max(at, default=0))
        near = {test for line, tests in at.items() if first < line <= last for test in tests}
        here = set(at.get(mutant.line, []))
        files: dict[str, list[str]] = defaultdict(list)
        spent: dict[str, float] = defaultdict(float)
        for test in sorted(near | here, key=lambda one: (one not in here, self.seconds[one], one)):
            file = test.partition("::")[0]
            if not spent[file] or spent[file] + self.seconds[test] <= PER_FILE:
                files[file].append(test)
                spent[file] += self.seconds[test]
        plan, total = Plan(), 0.0
        for file in sorted(files, key=lambda one: spent[one]):
            if not plan or total + spent[file] <= ALTOGETHER:
                plan.append((file, files[file]))
                total += spent[file]
        return plan, total


class Watch:
    """A plugin of pytest: the context of coverage is the test that runs, or the file that is imported."""

    def __init__(self, cov: coverage.Coverage) -> None:
        self.cov, self.seconds = cov, dict[str, float]()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        """What a test file does while it is imported counts for all of its tests."""
        if isinstance(collector, pytest.Module):
            self.cov.switch_context(f"file {collector.nodeid}")
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Nothing that was remembered from other tests: each goes through what it needs itself."""
        for name, module in list(sys.modules.items()):
            if name.startswith("klimb."):
                for value in list(vars(module).values()):
                    if hasattr(value, "cache_clear"):
                        value.cache_clear()
        self.cov.switch_context(f"test {item.nodeid}")
        began = time.perf_counter()
        found = yield
        self.seconds[item.nodeid] = time.perf_counter() - began
        self.cov.switch_context("")
        return found


def _watch(root: Path, file: Path, key: str) -> int:
    """Runs all tests once under coverage and writes down what is found; pytest's exit code."""
    os.chdir(root)
    cov = coverage.Coverage(data_file=None, config_file=False, include=[str(root / "src/klimb/*")])
    watch = Watch(cov)
    with cov.collect():
        code = int(pytest.main([*COMMON, *SUITE], plugins=[watch]))
    if code:
        return code
    data, of_file = cov.get_data(), defaultdict(list)
    for test in watch.seconds:
        of_file[test.partition("::")[0]].append(test)
    lines: dict[str, dict[int, list[str]]] = {}
    for path in data.measured_files():
        found = {
            line: sorted({test for context in contexts for test in _tests(context, of_file)})
            for line, contexts in data.contexts_by_lineno(path).items()
        }
        lines[str(Path(path).relative_to(root))] = found
    file.write_text(json.dumps({"key": key, "seconds": watch.seconds, "lines": lines}), "utf-8")
    return 0


def _tests(context: str, of_file: dict[str, list[str]]) -> list[str]:
    kind, _, name = context.partition(" ")
    return [name] if kind == "test" else of_file.get(name, [])


def run_tests(root: Path, mutant: Mutant, plan: Plan, limit: int) -> int:
    """In a fork: 0 where all tests pass with the mutant in place of its file, else 1; `limit`: seconds of computing."""
    os.chdir(root)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.suppress(BaseException):
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        hypothesis.settings.register_profile("mutants", database=None, derandomize=True, deadline=None)
        hypothesis.settings.load_profile("mutants")
        _replace(str(root / mutant.path), mutant.source.encode())
        codes = (_code(file, tests) for file, tests in plan)
        return int(any(codes))
    return 1


def _code(file: str, tests: list[str]) -> int:
    """pytest's exit code; the whole file where the mutant has changed the names of its tests."""
    code = int(pytest.main([*COMMON, *tests]))
    return int(pytest.main([*COMMON, file])) if code == pytest.ExitCode.USAGE_ERROR else code


def _replace(path: str, source: bytes) -> None:
    """Whoever imports the file gets `source`, and never what was compiled before."""
    sys.dont_write_bytecode = True
    loader: Any = loading.SourceFileLoader
    data, stats = loader.get_data, loader.path_stats

    def get_data(self: Any, name: str) -> Any:
        return source if name == path else data(self, name)

    def path_stats(self: Any, name: str) -> Any:
        if name == path:
            raise OSError("a mutant is never read from compiled code")
        return stats(self, name)

    loader.get_data, loader.path_stats = get_data, path_stats
