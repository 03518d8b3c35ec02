"""How many tests a program passes: it runs in one sandbox, and what it said is judged outside, or in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from klimb.rewards.sandbox.asserts import Tests
from klimb.rewards.sandbox.box import Box
from klimb.rewards.sandbox.cases import Pair
from klimb.rewards.sandbox.run import Ended, run
from klimb.rewards.sandbox.values import lines, literal

LEAST = 1.0
"""Seconds that the judging has in any case."""


class NoSandbox(Exception):
    """The sandbox itself did not come to be."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed` of `count` tests; `why` the first one failed; `late` is whether time ran out."""

    passed: int
    count: int
    why: str = ""
    late: bool = False


def judge(box: Box, source: str, tests: Sequence[Pair] | Tests, *, exact: bool = False, every: bool = False) -> Verdict:
    """Runs the tests, all of them or (`every`) up to the first that fails. Raises NoSandbox."""
    if isinstance(tests, Tests):
        return _asserts(box, source, tests)
    passed, why, left = 0, "", box.limits.seconds
    for pair in tests:
        ended = _stood(run(_within(box, left), "program", source, pair.given.encode("utf-8", "surrogatepass")))
        left -= ended.seconds
        fault = _fault(ended, pair, exact)
        passed, why = passed + (not fault), why or fault
        if left <= 0.01 or (fault and every) or ended.late:
            return Verdict(passed, len(tests), why, ended.late or left <= 0.01)
    return Verdict(passed, len(tests), why)


def _within(box: Box, seconds: float) -> Box:
    return replace(box, limits=replace(box.limits, seconds=seconds))


def _stood(ended: Ended) -> Ended:
    if not ended.stood:
        raise NoSandbox(f"exit {ended.status}: {ended.said}")
    return ended


def _fault(ended: Ended, pair: Pair, exact: bool) -> str:
    """Why a program did not do what a pair wants; empty where it did."""
    if ended.why:
        return ended.why
    if ended.status:
        return f"it ended with {ended.status}: {ended.said}"
    out = ended.out.decode("utf-8", "replace").replace("\r\n", "\n")
    same = out == pair.wanted if exact else _tidy(out) == _tidy(pair.wanted)
    return "" if same else "it printed something else"


def _tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _asserts(box: Box, source: str, tests: Tests) -> Verdict:
    ended = _stood(run(box, "values", source, calls=tests.asking()))
    answers = lines(ended.out)[: len(tests.calls)]
    values = [literal(answer) for answer in answers] + [None] * (len(tests.calls) - len(answers))
    module, kept = tests.judging(values)
    why = ended.why or (ended.said if not answers else "") or "a call gave no plain value, or another one"
    if not kept:
        return Verdict(0, len(tests.claims), why, ended.late)
    left = max(box.limits.seconds - ended.seconds, LEAST)  # a value that takes longer to compare is none
    said = lines(_stood(run(_within(box, left), "values", "", calls=module)).out)
    passed = sum(one == ["value", ["is", True]] for one in said)
    return Verdict(passed, len(tests.claims), "" if passed == len(tests.claims) else why, ended.late)
