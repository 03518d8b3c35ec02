"""The program of the source `math-verify`. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

from math_verify import parse, verify


def score(completion: str, answer: str | None) -> float | None:
    """Whether both say the same; None where the answer cannot be read. Its own timeouts are off: the worker has one."""
    if answer is None:
        return None
    marked = answer if "$" in answer or "\\boxed" in answer else f"${answer}$"
    gold = parse(marked, parsing_timeout=None)
    if not gold:
        return None
    said = parse(completion, parsing_timeout=None)
    return float(verify(gold, said, timeout_seconds=None))
