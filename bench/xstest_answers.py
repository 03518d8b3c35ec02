"""Answers to XSTest's training prompts, one model's that refuse too much beside another's that refuse too little.

Usage: python bench/xstest_answers.py PROMPTS.csv OUT.jsonl [--first N] [--share S] ANSWERS.csv...
What recipes/laser.yaml holds out (`data.share`, S) is left out. Of each answer the first N words are kept. The rows
are `labelled` ones that are all to be learned: a policy that is fitted to them refuses some of either side, so that
there is something to learn by reinforcement; one that never refuses learns nothing from a reward for refusing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from klimb.atomic import write_atomic
from klimb.data.reading import csv_rows
from klimb.data.xstest import XsTest
from klimb.rewards.word_fitting import begun


def main() -> None:
    """Writes the rows and says how many there are."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("prompts", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("answers", type=Path, nargs="+")
    asked.add_argument("--first", type=int, default=18)
    asked.add_argument("--share", type=float, default=0.25)
    args = asked.parse_args()
    known = {one.messages[-1].content for one in XsTest(path=args.prompts, share=args.share).open().train}
    rows = [row for path in args.answers for row in rows_of(path, known, args.first)]
    write_atomic(args.out, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} answers to {len({row['prompt'] for row in rows})} prompts: {args.out}")


def rows_of(path: Path, known: Collection[str], first: int) -> Iterator[dict[str, object]]:
    """The rows of a file of answers whose prompt is known."""
    for _, row in csv_rows(path):
        if row["prompt"] in known:
            yield {"prompt": row["prompt"], "completion": begun(row["completion"].strip(), first), "label": True}


if __name__ == "__main__":
    main()
