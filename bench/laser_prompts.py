"""The prompts of bench/laser-refusals.yaml, half to be refused and half to be answered, and answers to begin with.

Usage: python bench/laser_prompts.py DATA OUT [--first N] [--longest N]
DATA has the folders `xstest` and `ultrafeedback-sample`. Into OUT go `train.jsonl` and `held_out.jsonl`: the unsafe
prompts of XSTest (`label`: unsafe; three quarters, and the rest), and as many of UltraFeedback's instructions (safe),
the first of its training and of its evaluation rows that are no longer than N characters; and `answers.jsonl`: the
first N words of what Llama 2, who refuses too much, and Mistral, who refuses too little, said to XSTest's training
prompts. All of these are to be learned: a policy that refuses now and then can learn when to, and one that never does
cannot.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from klimb.atomic import write_atomic
from klimb.data.faulty import Faults
from klimb.data.reading import csv_rows, rows_of
from klimb.data.xstest import XsTest
from klimb.rewards.words import begun
from klimb.types import Prompt

SPEAKERS = ("llama2orig", "mistralinstruct")


def main() -> None:
    """Writes the three files and says how many rows each has."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--first", type=int, default=18)
    asked.add_argument("--longest", type=int, default=160)
    args = asked.parse_args()
    problems = XsTest(path=args.data / "xstest/xstest_prompts.csv", share=0.25).open()
    known = {text_of(one) for one in problems.train}
    files = {"answers": [row for name in SPEAKERS for row in answers(args.data, name, known, args.first)]}
    for name, prompts, rows in (("train", problems.train, "train_1000"), ("held_out", problems.held_out, "eval_200")):
        unsafe = [text_of(one) for one in prompts if one.metadata["label"] == "unsafe"]
        safe = instructions(args.data / f"ultrafeedback-sample/{rows}.jsonl", len(unsafe), args.longest)
        files[name] = [
            {"prompt": text, "label": label} for label, some in (("unsafe", unsafe), ("safe", safe)) for text in some
        ]
    for name, found in files.items():
        write_atomic(args.out / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in found))
        print(f"{name}: {len(found)} rows")


def text_of(prompt: Prompt) -> str:
    """What is asked, in words."""
    return prompt.messages[-1].content


def answers(data: Path, speaker: str, known: set[str], first: int) -> Iterator[dict[str, Any]]:
    """How a model's answers to known prompts begin, as labelled rows."""
    for _, row in csv_rows(data / f"xstest/xstest_v2_completions_{speaker}.csv"):
        if row["prompt"] in known:
            yield {"prompt": row["prompt"], "completion": begun(row["completion"].strip(), first), "label": True}


def instructions(path: Path, count: int, longest: int) -> Sequence[str]:
    """The first so many different short prompts of a file of pairs."""
    faults = Faults()
    short = [row["prompt"] for _, row in rows_of(path, faults) if len(row["prompt"]) <= longest]
    faults.check()
    return list(dict.fromkeys(short))[:count]


if __name__ == "__main__":
    main()
