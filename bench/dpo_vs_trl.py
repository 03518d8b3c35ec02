"""DPO (or a Bradley-Terry reward model) through TRL's trainer and through klimb, alternating: the same pairs and model.

Usage: python bench/dpo_vs_trl.py [--what dpo|reward] [--data FILE --rows hh] [--steps N] [--json] ...
What is compared, and how it is counted: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contestant import Contestant, Options
from pairs_agreement import ENOUGH, compared, relative
from pairs_work import head, made_pairs, other_model, read_pairs, token_ids
from rlvr_vs_trl import HERE, KEEP, key, processor, rounded, trl_python

from klimb.policy.hardware import dtype_of
from klimb.policy.pull import pull

STAGES = ("reference", "forward and backward", "optimizer", "other", "step")


def words() -> argparse.Namespace:
    """The command line."""
    parser = Options(__doc__)
    parser.number("--steps", 6, "measured optimizer steps a side, after one warm-up step each")
    parser.number("--pairs", 8, "pairs a step")
    parser.number("--prompt-tokens", 512, "longer prompts lose their beginning")
    parser.number("--answer-tokens", 256, "longer answers lose their end")
    parser.number("--threads", os.cpu_count() or 1, "threads of each side")
    parser.number("--micro-tokens", 0, "klimb's tokens in one pass, 0 = its own default")
    parser.number("--trl-micro", 4, "TRL's pairs in one pass; divides --pairs")
    parser.add_argument("--what", default="dpo", choices=("dpo", "reward"), help="the trainer (default dpo)")
    parser.add_argument("--data", type=Path, help="a file of pairs; without it they are generated")
    parser.add_argument("--rows", default="pairs", help="the form of its rows: pairs (default), hh, ...")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "bfloat16", "float32"), help="of both sides (default auto)"
    )
    parser.switch(
        "--trl-precompute", "TRL with the reference's log-probs computed before the first step, outside its time"
    )
    parser.switch("--trl-malloc", "TRL with an allocator that keeps freed pages, as klimb sets it for itself")
    parser.switch("--checkpointing", "klimb with activation checkpointing")
    parser.switch("--json", "end with one line of JSON")
    parser.add_argument("--sides", default="trl,klimb", help="which sides run: trl,klimb (default), trl, or klimb")
    parser.add_argument("--model", default="smollm2-135m", help="a pulled model's name, or a folder")
    args = parser.parse_args()
    if args.pairs % args.trl_micro:
        parser.error(f"--trl-micro {args.trl_micro} does not divide --pairs {args.pairs}")
    args.precision = str(dtype_of(args.precision, torch.device("cpu"))).removeprefix("torch.")
    return args


def job(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What both sides are told."""
    steps = args.steps + 1
    count = args.pairs * steps
    return {
        "what": args.what, "rows": read_pairs(args.data, args.rows, count) if args.data else made_pairs(count),
        "model": args.model if Path(args.model).is_dir() else str(pull(args.model)), "steps": steps, "lr": 1e-9,
        "pairs": args.pairs, "prompt_tokens": args.prompt_tokens, "answer_tokens": args.answer_tokens, "beta": 0.1,
        "centring": 0.01, "threads": args.threads, "precision": args.precision, "seed": 0, "folder": str(folder),
        "micro_tokens": args.micro_tokens, "checkpointing": args.checkpointing,
    }  # fmt: skip


def contestants(args: argparse.Namespace, stack: ExitStack, folder: Path) -> list[Contestant]:
    """The sides that were asked for, loaded and waiting. Both are given the same token ids."""
    base, sides = job(args, folder), []
    base["reference"] = other_model(base["model"], folder / "reference") if args.what == "dpo" else ""
    if "trl" in args.sides:
        width = json.loads((Path(base["model"]) / "config.json").read_text("utf-8"))["hidden_size"]
        more = {
            "ids": token_ids(base, folder / "ids"), "micro": args.trl_micro, "bf16": args.precision == "bfloat16",
            "precompute": args.trl_precompute, "head": head(width).tolist(), "folder": str(folder / "trl"),
        }  # fmt: skip
        command = [trl_python(), str(HERE / "pairs_trl.py")]
        sides.append(Contestant("TRL", command, base | more, folder, KEEP if args.trl_malloc else {}))
    if "klimb" in args.sides:
        command = [sys.executable, str(HERE / "pairs_klimb.py")]
        sides.append(Contestant("klimb", command, base | {"folder": str(folder / "klimb")}, folder))
    return [stack.enter_context(side) for side in sides]


def compete(args: argparse.Namespace, sides: list[Contestant]) -> list[list[Any]]:
    """Lets the sides do their steps in turn: one works, the others sleep; returns what each said of the first two."""
    first: list[list[Any]] = [[] for _ in sides]
    for step in range(args.steps + 1):
        for side, said in zip(sides, first, strict=True):
            done = side.step(keep=step > 0)
            if step < 2:
                said.append(done)
            what = "warm-up" if step == 0 else f"step {step}/{args.steps}"
            print(f"{what:>10}  {side.name:<8} {done['seconds']['step']:7.1f} s  {done['tokens']} tokens", flush=True)
    return first


def agreement(first: list[list[Any]], folder: Path) -> dict[str, Any]:
    """How far the two sides' first two steps are apart: relative differences; the gradient of the first one alone.

    Stops where a loss would agree whatever the sides compute: log 2, that of a reference which is the policy itself.
    """
    found: dict[str, Any] = {}
    for (trl, klimb), when in zip(zip(*first, strict=True), ("", "_second"), strict=True):
        if klimb.get("logp_chosen") is not None and abs(klimb["loss"] - math.log(2)) < ENOUGH:
            raise SystemExit("the reference is the policy itself: every loss is log 2, and nothing is compared")
        names = [name for name in ("loss", "logp_chosen", "logp_rejected") if klimb.get(name) is not None]
        found |= {name + when: relative(trl[name], klimb[name]) for name in names}
    return found | compared(folder / "trl" / "gradient", folder / "klimb" / "gradient")


def per_second(side: Contestant, args: argparse.Namespace) -> float:
    """Pairs a second, the median over the steps."""
    return float(median(args.pairs / step["seconds"]["step"] for step in side.steps))


def table(sides: list[Contestant], args: argparse.Namespace) -> str:
    """Everything measured, as a Markdown table."""
    rows = [["median of a step", *(side.name for side in sides)]]
    rows += [[f"{stage}, s", *(f"{side.seconds(stage):.2f}" for side in sides)] for stage in STAGES]
    rows += [
        ["answer tokens", *(f"{side.tokens():.0f}" for side in sides)],
        ["pairs a second", *(f"{per_second(side, args):.3f}" for side in sides)],
        ["peak memory, GB", *(f"{side.peak_gb():.2f}" for side in sides)],
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def summary(sides: list[Contestant], args: argparse.Namespace) -> dict[str, Any]:
    """What the last line of JSON holds."""
    by = {key(side.name): side for side in sides}
    out: dict[str, Any] = {"what": args.what, "precision": args.precision}
    out["pairs_per_second"] = rounded({name: per_second(side, args) for name, side in by.items()})
    out["peak_gb"] = rounded({name: side.peak_gb() for name, side in by.items()})
    out["seconds"] = {name: rounded({stage: side.seconds(stage) for stage in STAGES}) for name, side in by.items()}
    if {"trl", "klimb"} <= set(by):
        trl, klimb = by["trl"], by["klimb"]
        out["ratio"] = {
            "speed": round(per_second(klimb, args) / per_second(trl, args), 3),
            "memory": round(trl.peak_gb() / klimb.peak_gb(), 3),
        }
    return out


def told(found: dict[str, Any], exact: bool) -> None:
    """Says how the first two steps agree; in float32 stops with an error where they do not."""
    gaps = {
        name: value for name, value in found.items() if name not in ("parameters", "grad_norm", "gradient_worst_of")
    }
    line = ", ".join(f"{name} {value:.1e}" for name, value in gaps.items())
    where = f"of {found['gradient_worst_of']}, {found['parameters']} parameters"
    print(f"first two steps, relative differences: {line} ({where})")
    bad = [name for name in gaps if name != "gradient_worst" and not gaps[name] <= ENOUGH]
    if exact and bad:
        raise SystemExit(f"the two sides do not make the same first two steps: {', '.join(bad)} above {ENOUGH:.0e}")


def main() -> None:
    """Runs the benchmark and prints what it found."""
    args = words()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children end, too
    load = os.getloadavg()[0]
    print(f"{processor()}, {args.precision}, {args.threads} threads, load {load:.1f} before the start", flush=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = contestants(args, stack, Path(folder))
        first = compete(args, sides)
        found = summary(sides, args)
        if len(first) == 2:
            found["agreement"] = agreement(first, Path(folder))
        print(f"\n{table(sides, args)}\n")
        if "ratio" in found:
            print(f"klimb's pairs a second over TRL's {found['ratio']['speed']}, TRL's memory over klimb's ", end="")
            print(f"{found['ratio']['memory']}")
            told(found["agreement"], args.precision == "float32")
        if args.json:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
