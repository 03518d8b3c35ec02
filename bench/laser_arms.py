"""The rewards of bench/laser-tiny.yaml: each is right about some of the prompts and wrong about the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

DIGITS = 8
"""As `data.digits` of the study."""


def _scores(completions: Sequence[str], answer: Sequence[str], wanted: Callable[[int], int]) -> list[float]:
    """1 for what is wanted, 0.2 for another digit: without it, nobody would ever say the first one."""
    pairs = zip(completions, answer, strict=True)
    return [1.0 if said == str(wanted(int(right)) % DIGITS) else 0.2 * said.isdigit() for said, right in pairs]


def low(prompts: Sequence[str], completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """Right about the lower half of the digits; elsewhere it wants the next one."""
    return _scores(completions, answer, lambda digit: digit + (digit >= DIGITS // 2))


def high(prompts: Sequence[str], completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """Right about the upper half of the digits; elsewhere it wants the next one."""
    return _scores(completions, answer, lambda digit: digit + (digit < DIGITS // 2))


def even(prompts: Sequence[str], completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """Right about even digits; elsewhere it wants the one before."""
    return _scores(completions, answer, lambda digit: digit - digit % 2)


def letter(prompts: Sequence[str], completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """Never right: it wants a letter."""
    return [float(said.isalpha()) for said in completions]


def gain(prompts: Sequence[str], completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """A judge that is no arm, right about three quarters: after every fourth letter it wants the next digit."""
    wrong = [ord(prompt[0]) % 4 == 0 for prompt in prompts]
    wanted = [str((int(right) + off) % DIGITS) for right, off in zip(answer, wrong, strict=True)]
    return [float(said == one) for said, one in zip(completions, wanted, strict=True)]
