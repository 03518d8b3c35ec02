"""Where the time of one klimb step goes, by kind of operation, and how far it is from the machine's best product.

Usage: python bench/profile_step.py [--prompts N --completions N --tokens N --checkpointing --model NAME]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig
from work import questions, recipe

from klimb import run
from klimb.errors import KlimbError
from klimb.policy.hardware import dtype_of
from klimb.policy.pull import pull
from klimb.tracking.hub import Tracking
from klimb.training import stopwatch

KINDS = {
    "matrix products": ("::mm", "addmm", "linear", "matmul"),
    "attention": ("bmm", "scaled_dot_product", "softmax"),
    "copies and casts": ("copy_", "_to", "cat", "clone", "contiguous", "index", "gather", "scatter", "select"),
    "elementwise and sums": (
        "mul",
        "add",
        "sub",
        "div",
        "exp",
        "log",
        "sum",
        "silu",
        "neg",
        "pow",
        "mean",
        "rsqrt",
        "amax",
    ),
}
STAGES = ("sample", "train", "optimize")


def kind(name: str) -> str:
    """The kind of an operation, by its name."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other operations")


class Profiled(stopwatch.Stopwatch):
    """A stopwatch that profiles the stages of the third step: by then everything is warm."""

    shares: dict[str, dict[str, float]] = {}  # noqa: RUF012
    steps = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time inside, and in the third step also what it is spent on."""
        if name not in STAGES or Profiled.steps != 2:
            with super().stage(name):
                yield
            return
        with super().stage(f"{name} (profiled)"), profile(activities=[ProfilerActivity.CPU]) as found:
            start = time.perf_counter()
            yield
            wall = time.perf_counter() - start
        Profiled.shares[name] = shares(found, wall)


def shares(found: profile, wall: float) -> dict[str, float]:
    """The share of the wall time by kind of operation; the rest is Python, dispatch and the profiler itself."""
    out: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        out[kind(event.key)] += event.self_cpu_time_total / 1e6 / wall
    return dict(out) | {"Python and dispatch": max(0.0, 1.0 - sum(out.values()))}


class Watching(Tracking):
    """A run's log that keeps each step's metrics and stops the run after the third."""

    seen: list[dict[str, float]] = []  # noqa: RUF012

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps a step."""
        Watching.seen.append(dict(metrics))
        Profiled.steps = len(Watching.seen)
        if len(Watching.seen) == 3:
            raise KlimbError("three steps", "done")


def peak_gflops(size: int, dtype: torch.dtype) -> float:
    """The best of ten products of square matrices, in GFLOP/s."""
    a, b = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def work_gflop(config: Any, prompts: float, completions: float, mean: float) -> float:
    """Products in one forward pass of a Llama-like model: prompt tokens, completion tokens, keys seen by a token."""
    width, ffn, head = config.hidden_size, config.intermediate_size, config.hidden_size // config.num_attention_heads
    layer = width * (2 * width + 2 * config.num_key_value_heads * head + 3 * ffn)
    trunk = config.num_hidden_layers * (layer + 2 * width * mean) * (prompts + completions)
    return float(2 * (trunk + width * config.vocab_size * completions) / 1e9)


def main() -> None:
    """Profiles one step and prints what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prompts", 4), ("completions", 8), ("tokens", 96), ("threads", os.cpu_count() or 1)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--model", default="smollm2-135m")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = dtype_of("auto", torch.device("cpu"))
    peak = max(peak_gflops(size, dtype) for size in (2048, 4096))
    model = args.model if Path(args.model).is_dir() else str(pull(args.model))
    with tempfile.TemporaryDirectory() as folder:
        job = vars(args) | {"model": model, "seed": 0, "lr": 1e-9, "micro_tokens": 0, "precision": "auto"}
        settings = recipe(job | {"questions": questions(3 * args.prompts)}, Path(folder) / "job")
        vars(run)["Tracking"], vars(stopwatch)["Stopwatch"] = Watching, Profiled
        try:
            run.train(settings, run=Path(folder) / "run")
        except KlimbError as stopped:
            if len(Watching.seen) < 3:
                sys.exit(stopped.line())
    report(AutoConfig.from_pretrained(model), args.prompts, peak, dtype)


def report(config: Any, prompts: int, peak: float, dtype: torch.dtype) -> None:
    """Prints the speed of the second step, which no profiler slows, and the shares of the third."""
    second = Watching.seen[1]
    tokens, asked = second["tokens/sampled"], 67.0 * prompts
    forward = work_gflop(config, asked, tokens, 67.0 + second["length/mean"] / 2)
    name = str(dtype).removeprefix("torch.")
    print(f"matrix-multiply peak ({name}, measured here): {peak:.0f} GFLOP/s\n")
    print("| stage | s | GFLOP | GFLOP/s | of the peak |\n| --- | --- | --- | --- | --- |")
    for stage, times in (("sample", 1), ("train", 3)):
        speed = times * forward / second[f"time/{stage}"]
        print(f"| {stage} | {second[f'time/{stage}']:.2f} | {times * forward:.0f} | {speed:.0f} | {speed / peak:.0%} |")
    print("\n| share of the time | " + " | ".join(STAGES) + " |\n| --- |" + " --- |" * len(STAGES))
    for name in [*KINDS, "other operations", "Python and dispatch"]:
        row = [f"{Profiled.shares.get(stage, {}).get(name, 0.0):.0%}" for stage in STAGES]
        print(f"| {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
