"""One GRPO step through TRL's GRPOTrainer and through klimb, alternating in one run: the same model, prompts and work.

Usage: python bench/rlvr_vs_trl.py [--steps N] [--checkpointing] [--json] ...
What is compared, and how it is counted: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from contestant import STAGES, Contestant, Options
from work import questions

from klimb.policy.hardware import dtype_of
from klimb.policy.pull import pull

HERE = Path(__file__).resolve().parent
TRL_VENV = HERE.parent / ".trl-venv"
TRL_PINS = ("torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "accelerate==1.15.0", "datasets==5.2.0")
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(2**34), "MALLOC_TRIM_THRESHOLD_": str(2**35)}
ALIKE = 0.03  # completion tokens that differ by less than this share count as equal


def words() -> argparse.Namespace:
    """The command line."""
    parser = Options(__doc__)
    parser.number("--steps", 6, "measured optimizer steps a side, after one warm-up step each")
    parser.number("--prompts", 4, "prompts a step")
    parser.number("--completions", 8, "completions of each prompt")
    parser.number("--tokens", 96, "the most tokens of a completion")
    parser.number("--threads", os.cpu_count() or 1, "threads of each side")
    parser.number("--micro-tokens", 0, "klimb's tokens in one pass, 0 = its own default")
    parser.number("--trl-micro", 8, "TRL's completions in one pass")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "bfloat16", "float32"),
        help="of both sides; auto is bfloat16 where the processor multiplies it in hardware (avx512_bf16, amx)",
    )  # fmt: skip
    parser.switch("--trl-fp32", "TRL in float32 whatever the other side computes in")
    parser.switch("--trl-malloc", "TRL with an allocator that keeps freed pages, as klimb sets it for itself")
    parser.switch("--checkpointing", "add klimb with activation checkpointing as a third side")
    parser.switch("--json", "end with one line of JSON")
    parser.add_argument("--sides", default="trl,klimb", help="which sides run: trl,klimb (default), trl, or klimb")
    parser.add_argument("--model", default="smollm2-135m", help="a pulled model's name, or a folder")
    args = parser.parse_args()
    args.precision = str(dtype_of(args.precision, torch.device("cpu"))).removeprefix("torch.")
    return args


def trl_python() -> str:
    """The Python of TRL's own environment, which is made where it is missing."""
    python = TRL_VENV / "bin" / "python"
    done = TRL_VENV / "installed"
    if not done.exists() or done.read_text("utf-8").split() != list(TRL_PINS):
        print(f"installing TRL into {TRL_VENV.name} (about two minutes)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(TRL_VENV)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, TRL_PINS[0]], check=True)
        subprocess.run([*pip, *TRL_PINS], check=True)
        done.write_text("\n".join(TRL_PINS), "utf-8")
    return str(python)


def job(args: argparse.Namespace, folder: Path, **more: object) -> dict[str, Any]:
    """What a side is told: the same for all, and what is its own."""
    steps = args.steps + 1
    model = args.model if Path(args.model).is_dir() else str(pull(args.model))
    return {
        "model": model, "questions": questions(args.prompts * steps), "steps": steps, "prompts": args.prompts,
        "completions": args.completions, "tokens": args.tokens, "threads": args.threads, "lr": 1e-9, "seed": 0,
        "folder": str(folder), "precision": args.precision,
    } | more  # fmt: skip


def contestants(args: argparse.Namespace, stack: ExitStack, folder: Path) -> list[Contestant]:
    """The sides that were asked for, loaded and waiting."""
    sides = []
    if "trl" in args.sides:
        more = {"micro": args.trl_micro, "bf16": args.precision == "bfloat16" and not args.trl_fp32}
        command = [trl_python(), str(HERE / "trl_child.py")]
        sides.append(
            Contestant("TRL", command, job(args, folder / "trl", **more), folder, KEEP if args.trl_malloc else {})
        )
    if "klimb" in args.sides:
        for name, checkpointing in (("klimb", False), ("klimb, checkpointing", True))[: 1 + args.checkpointing]:
            more = {"checkpointing": checkpointing, "micro_tokens": args.micro_tokens}
            command = [sys.executable, str(HERE / "klimb_child.py")]
            sides.append(Contestant(name, command, job(args, folder / name, **more), folder))
    return [stack.enter_context(side) for side in sides]


def compete(args: argparse.Namespace, sides: list[Contestant]) -> None:
    """Lets the sides do their steps in turn: one works, the others sleep."""
    for step in range(args.steps + 1):
        for side in sides:
            done = side.step(keep=step > 0)
            what = "warm-up" if step == 0 else f"step {step}/{args.steps}"
            print(f"{what:>10}  {side.name:<22} {done['seconds']['step']:7.1f} s  {done['tokens']} tokens", flush=True)


def table(sides: list[Contestant]) -> str:
    """Everything measured, as a Markdown table; the ratios are TRL's over klimb's."""
    rows = [["median of a step", *(side.name for side in sides)]]
    rows += [[f"{stage}, s", *(f"{side.seconds(stage):.2f}" for side in sides)] for stage in STAGES]
    rows += [
        ["completion tokens", *(f"{side.tokens():.0f}" for side in sides)],
        ["completions cut at the limit", *(f"{side.full():.0%}" for side in sides)],
        ["s per 1,000 completion tokens", *(f"{side.seconds_per_1k('step'):.2f}" for side in sides)],
        ["tokens sampled a second", *(f"{1000 / side.seconds_per_1k('sampling'):.0f}" for side in sides)],
        ["tokens trained a second", *(f"{1000 / side.seconds_per_1k('training'):.0f}" for side in sides)],
        ["peak memory, GB", *(f"{side.peak_gb():.2f}" for side in sides)],
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def ratios(one: Contestant, other: Contestant) -> dict[str, Any]:
    """How many times the second is faster: by raw seconds and on equal tokens; `ratio` is the fair one of the two."""
    names = ("step", "sampling", "training")
    seconds = {name: one.seconds(name) / other.seconds(name) for name in names}
    tokens = {name: one.seconds_per_1k(name) / other.seconds_per_1k(name) for name in names}
    alike = abs(one.tokens() / other.tokens() - 1) <= ALIKE
    chosen, basis = (seconds, "seconds") if alike else (tokens, "seconds per completion token")
    return {
        "ratio": rounded(chosen),
        "basis": basis,
        "ratio_seconds": rounded(seconds),
        "ratio_per_token": rounded(tokens),
    }


def rounded(values: dict[str, float]) -> dict[str, float]:
    """With three digits after the point."""
    return {name: round(value, 3) for name, value in values.items()}


def key(name: str) -> str:
    """A side's name in the JSON line."""
    return name.lower().replace(", ", "_")


def summary(sides: list[Contestant]) -> dict[str, Any]:
    """What the last line of JSON holds."""
    by = {side.name: side for side in sides}
    out: dict[str, Any] = ratios(by["TRL"], by["klimb"]) if {"TRL", "klimb"} <= set(by) else {}
    out["peak_gb"] = {key(name): round(side.peak_gb(), 3) for name, side in by.items()}
    out["seconds"] = {key(name): rounded({stage: side.seconds(stage) for stage in STAGES}) for name, side in by.items()}
    if {"klimb", "klimb, checkpointing"} <= set(by):
        plain, saving = by["klimb"], by["klimb, checkpointing"]
        out["checkpointing"] = {"time": round(saving.seconds_per_1k("step") / plain.seconds_per_1k("step"), 3)}
    return out


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    bf16 = any("avx512_bf16" in line for line in lines if line.startswith("flags"))
    return f"{names[0] if names else platform.machine()}{', avx512_bf16' if bf16 else ''}"


def main() -> None:
    """Runs the benchmark and prints what it found."""
    args = words()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children end, too
    print(
        f"{processor()}, {args.precision}, {args.threads} threads, load {os.getloadavg()[0]:.1f} before the start",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = contestants(args, stack, Path(folder))
        compete(args, sides)
        found = summary(sides)
        print(f"\n{table(sides)}\n")
        if "ratio" in found:
            print(
                f"TRL's time over klimb's, by {found['basis']}: "
                + ", ".join(f"{k} {v:.2f}" for k, v in found["ratio"].items())
            )
        if args.json:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
