"""GSM8K (Cobbe and others 2021): grade-school problems in words, whose answers end in `#### N`."""

from __future__ import annotations

from typing import Literal

from klimb.data.jsonl import Jsonl
from klimb.data.patterns import Pattern


class Gsm8k(Jsonl):
    """Reads the files of openai/grade-school-math as they are. Give train.jsonl, and test.jsonl as `held_out`."""

    type: Literal["gsm8k"] = "gsm8k"  # type: ignore[assignment]
    prompt: str = "question"
    answer_pattern: Pattern | None = r"#### (.*)"
