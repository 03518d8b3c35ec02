"""The rewards of bench/laser-tiny.yaml: each is right about some of the prompts and wrong about the others."""

from __future__ import annotations


def _score(completion: str, wanted: str) -> float:
    """1 for what is wanted, 0.2 for another digit: without it, nobody would ever say the first one."""
    return 1.0 if completion == wanted else 0.2 * completion.isdigit()


def even(prompt: str, completion: str, answer: str) -> float:
    """Right where the digit is even; elsewhere it wants the next one."""
    return _score(completion, answer if int(answer) % 2 == 0 else str((int(answer) + 1) % 4))


def odd(prompt: str, completion: str, answer: str) -> float:
    """Right where the digit is odd; elsewhere it wants the next one."""
    return _score(completion, answer if int(answer) % 2 == 1 else str((int(answer) + 1) % 4))


def first(prompt: str, completion: str, answer: str) -> float:
    """Right where the digit is 0 or 1; elsewhere it wants a 0."""
    return _score(completion, answer if int(answer) < 2 else "0")


def letter(prompt: str, completion: str, answer: str) -> float:
    """Never right: it wants a letter."""
    return float(completion.isalpha())
