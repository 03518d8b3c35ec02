"""Eighty hostile reward functions and more: one at a time, and all of them in a run that ends as without them."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from klimb.recipe import Recipe
from klimb.run import train
from klimb.types import Outcome, Score
from tests.faults.runs import SETTINGS
from tests.rewards.test_function import CASES, DEADLINE, FILE, FINE, function, gone, mark
from tests.rewards.words import asked, said

__all__ = ["mark"]
FAILED, WRONG, LATE, SCORED = Outcome.INFRA_FAILED, Outcome.UNSCORABLE, Outcome.TIMED_OUT, Outcome.SCORED
TIME = f"no answer in {DEADLINE:g} s"
MORE: dict[str, tuple[Outcome, str]] = {
    "own error": (FAILED, "it raised Own: of my own"), "stop iteration": (FAILED, "it raised StopIteration"),
    "group": (FAILED, "it raised ExceptionGroup: several"), "timeout": (FAILED, "it raised TimeoutError: mine"),
    "os error": (FAILED, "it raised OSError: [Errno 28]"), "unicode": (FAILED, "it raised UnicodeEncodeError"),
    "import": (FAILED, "it raised ModuleNotFoundError"), "long text": (FAILED, "it raised ValueError: xxx"),
    "eof": (FAILED, "it raised EOFError"), "exit text": (FAILED, "it raised SystemExit: a text"),
    "bytes": (WRONG, "a bytes"), "decimal": (WRONG, "a Decimal"), "own list": (WRONG, "a list"),
    "deep": (WRONG, "a list"), "class": (WRONG, "a type"), "function": (WRONG, "a builtin_function_or_method"),
    "coroutine in coroutine": (WRONG, "a coroutine"), "async generator": (WRONG, "a async_generator"),
    "liar": (FAILED, "it raised ValueError: no number at all"), "slow item": (LATE, TIME),
    "coroutine that hangs": (LATE, TIME), "coroutine that fails": (FAILED, "it raised LookupError"),
    "loop in loop": (LATE, TIME), "regex": (LATE, TIME), "power": (LATE, TIME), "tower": (LATE, TIME),
    "eight gigabytes": (FAILED, "it raised MemoryError"), "threads": (FAILED, "it raised RuntimeError"),
    "files": (FAILED, "it raised OSError: [Errno 24]"), "fork bomb": (FAILED, "it started more than 256 processes"),
    "linger": (FAILED, "its process exited with 4"), "kill parent": (FAILED, "killed by SIGKILL"),
    "end parent": (FAILED, "its process exited with 0"), "kill group": (FAILED, "killed by SIGKILL"),
    "sigterm": (FAILED, "killed by SIGTERM"), "sigbus": (FAILED, "killed by SIGBUS"),
    "exit thread": (FAILED, "its process exited with 6"), "trace": (LATE, TIME), "alarm": (LATE, TIME),
    "no float": (FAILED, "it raised TypeError"), "no json": (FAILED, "wrote into the channel"),
    **dict.fromkeys(
        ("hide", "twice", "twice in C", "stop parent", "stderr", "close output", "no files", "umask", "locale",
         "shallow", "no path", "no modules", "no collection", "nice", "handlers", "child reaper"), (SCORED, "")),
}  # fmt: skip
EITHER = {"gigabyte": WRONG, "eat": FAILED, "print a gigabyte": SCORED, "kill parent": WRONG}
"""What a slow machine does not end in time; of an end and a value, either may be first."""
SLOW = {"threads", "files", "fork bomb", "gigabyte", "eat", "print a gigabyte"}
"""What has to do much before it fails: with less time, on a busy machine, it is late before it is what it is."""
MARKS = dict.fromkeys(SLOW, (pytest.mark.slow,))
HARD = [pytest.param(name, id=name, marks=MARKS.get(name, ())) for name in dict.fromkeys((*MORE, *EITHER))]


def fits(deed: str, score: Score) -> bool:
    outcome, reason = MORE.get(deed, (LATE, ""))
    return (score.outcome is outcome and reason in score.reason) or score.outcome is EITHER.get(deed)


def hidden() -> bool:
    """Whether a process of the deed `hide` lives: it has neither parent nor environment of ours."""
    name = f"sleep\0600.{os.getpid()}\0".encode()
    return any(file.exists() and _read(file) == name for file in Path("/proc").glob("[0-9]*/cmdline"))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("deed", HARD)
def test_each_is_counted_under_its_own_cause_in_time_alone_and_leaves_nothing(deed: str) -> None:
    deadline = DEADLINE * 5 if deed in SLOW else DEADLINE
    with function("single", deadline) as score:
        score([asked()], [said("12")])
        start = time.monotonic()
        (found,) = score([asked()], [said(deed)])
        took = time.monotonic() - start
        others = score([asked()] * 2, [said("13"), said("12")])
    assert fits(deed, found), found
    assert [one.value for one in others] == [0.0, 1.0]
    assert took < deadline + 1.0
    assert not hidden()


def test_of_two_copies_in_c_the_original_answers_and_the_other_takes_no_request() -> None:
    with function("single") as score:
        for _ in range(20):
            scores = score([asked()] * 3, [said(text) for text in ("twice in C", "13", "12")])
            assert [one.value for one in scores] == [0.5, 0.0, 1.0]


def test_there_are_eighty_of_them() -> None:
    assert len({*MORE, *EITHER, *(case[0] for case in CASES), *(fine[0] for fine in FINE)}) >= 80


def test_a_deadline_holds_in_a_thread_too() -> None:
    got: list[Score] = []
    with function("single") as score:
        thread = Thread(target=lambda: got.extend(score([asked()] * 2, [said("regex"), said("12")])))
        thread.start()
        thread.join(DEADLINE + 3)
    assert [one.outcome for one in got] == [LATE, SCORED]


def run(folder: Path, name: str, rewards: list[dict[str, Any]], data: dict[str, Any]) -> Path:
    settings = SETTINGS | {
        "data": data,
        "rewards": rewards,
        "training": {"steps": data["limit"] // 16, "micro_tokens": 256},
        "source": {"prompts": 16, "completions": 2},
        "evaluation": {"every": 100, "problems": 2, "correct": "format"},
        "checkpoints": {"every": 100, "keep": 2},
    }
    train(Recipe.model_validate(settings), run=folder / name)
    return folder / name


DIGITS = {"type": "format", "pattern": ".*[0-9A-Za-z].*"}
HOSTILE = {"type": "function", "path": f"{FILE}:deed", "deadline": DEADLINE, "memory_gb": 4}


def prompts(folder: Path, deeds: list[str]) -> dict[str, Any]:
    """Data with a prompt for each deed, which is a column."""
    rows = [{"prompt": f"{n} a{n % 10}", "answer": str(n % 10), "deed": deed} for n, deed in enumerate(deeds)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "held.jsonl").write_text(json.dumps(rows[0] | {"prompt": "held", "deed": "none"}) + "\n", "utf-8")
    data = {"type": "jsonl", "path": str(folder / "rows.jsonl"), "held_out": str(folder / "held.jsonl")}
    return data | {"columns": ["deed"], "limit": len(deeds)}


def weights(path: Path) -> bytes:
    return next(path.rglob("checkpoints/step-*/model/model.safetensors")).read_bytes()


@pytest.mark.slow
def test_where_it_counts_a_run_ends_as_if_what_fails_had_said_nothing_and_healthy_answers_teach(tmp_path: Path) -> None:
    failing = ("raise", "sys.exit", "nan", "os._exit", "segfault", "sleep")
    data = prompts(tmp_path, [failing[n % 6] if n % 8 < 3 else "none" for n in range(48)])
    hostile = run(tmp_path, "hostile", [DIGITS, HOSTILE], data)
    meek = run(tmp_path, "meek", [DIGITS, HOSTILE | {"path": f"{FILE}:meek"}], data)
    assert weights(hostile) == weights(meek) != weights(run(tmp_path, "none", [DIGITS], data))


@pytest.mark.slow
def test_a_run_beside_all_of_them_ends_with_the_weights_of_a_run_without(tmp_path: Path) -> None:
    deeds = sorted({*MORE, *(case[0] for case in CASES), *(fine[0] for fine in FINE)})
    deeds += deeds[: -len(deeds) % 16]
    data = prompts(tmp_path, deeds)
    plain = run(tmp_path, "plain", [DIGITS], data)
    beside = run(tmp_path, "beside", [DIGITS, HOSTILE | {"weight": 0, "patience": 0}], data)
    assert weights(plain) == weights(beside)
    from klimb.rollouts import read

    seen = Counter[tuple[str, str]]()
    for file in sorted((beside / "rollouts").iterdir()):
        for group in read(file):
            deed = str(group.prompt.metadata["deed"])
            seen.update((deed, str(one.scores["function"].outcome)) for one in group.rollouts)
    expected = {**{name: what[0] for name, what in MORE.items()}, **{name: outcome for name, outcome, _ in CASES}}
    right = {name: {str(expected.get(name, SCORED)), str(EITHER.get(name))} for name in deeds}
    wrong = {key: n for key, n in seen.items() if key[1] not in right[key[0]]}
    assert not wrong
    assert sum(seen.values()) == 2 * len(deeds)
    assert gone() and not hidden()
