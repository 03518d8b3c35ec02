"""Users' reward functions: a failure is counted under its own cause, in time, alone, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from klimb.errors import RewardError
from klimb.rewards.base import Scorer
from klimb.rewards.function import Function
from klimb.types import Message, Outcome, Prompt
from tests.rewards.words import asked, chatted, said

FILE = Path(__file__).with_name("hostile.py")
DEADLINE = 0.6
OURS = "KLIMB_TEST_PROCESS"
FAILED, WRONG, LATE = Outcome.INFRA_FAILED, Outcome.UNSCORABLE, Outcome.TIMED_OUT

CASES = [
    ("raise", FAILED, "ZeroDivisionError: division by zero"), ("assert", FAILED, "AssertionError: expected"),
    ("key", FAILED, "KeyError: 'lost'"), ("memory", FAILED, "MemoryError"), ("allocate", FAILED, "MemoryError"),
    ("recurse", FAILED, "RecursionError"), ("unsayable", FAILED, "Unsayable"), ("sys.exit", FAILED, "SystemExit"),
    ("interrupt", FAILED, "KeyboardInterrupt"), ("generator exit", FAILED, "GeneratorExit"),
    ("cancelled", FAILED, "CancelledError"), ("None", WRONG, "None"), ("nan", WRONG, "nan"), ("inf", WRONG, "inf"),
    ("-inf", WRONG, "-inf"), ("1e308", WRONG, "1e+308"), ("huge", WRONG, "inf"), ("text", WRONG, "a str"),
    ("list", WRONG, "a list"), ("dict", WRONG, "a dict"), ("complex", WRONG, "a complex"),
    ("object", WRONG, "a object"),
    ("endless", WRONG, "a generator"), ("os._exit", FAILED, "exited with 3"), ("abort", FAILED, "SIGABRT"),
    ("segfault", FAILED, "SIGSEGV"), ("kill", FAILED, "SIGKILL"), ("close", FAILED, "exited with"),
    ("scribble", FAILED, "channel"), ("spoil", FAILED, "exited with"), ("sleep", LATE, "0.6 s"),
    ("busy", LATE, "0.6 s"),
    ("stop", LATE, "0.6 s"), ("children", LATE, "0.6 s"), ("deaf", LATE, "0.6 s"),
]  # fmt: skip
FINE = [("daemon", 0.5), ("thread", 0.5), ("world", 0.5), ("print", 0.5), ("true", 1.0)]


@contextmanager
def function(name: str, deadline: float = DEADLINE) -> Iterator[Scorer]:
    with Function(path=f"{FILE}:{name}", deadline=deadline, memory_gb=4).open() as scorer:
        yield scorer
    assert gone(), "no process is left behind"


def workers() -> list[int]:
    """Every living process but this one that has this one's mark in its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "environ").read_bytes().split(b"\0")
            if f"{OURS}={os.getpid()}".encode() in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def gone() -> bool:
    """Whether every one is gone within five seconds: a killed process takes a moment to die."""
    until = time.monotonic() + 5
    while workers() and time.monotonic() < until:
        time.sleep(0.02)
    return not workers()


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OURS, str(os.getpid()))


@pytest.mark.parametrize(
    ("deed", "outcome", "reason", "shape"),
    [
        pytest.param(*case, shape, id=f"{case[0]}-{shape}", marks=slow)
        for case in CASES
        for shape, slow in (("single", ()), ("batch", pytest.mark.slow if case[1] is WRONG else ()))
    ],
)
def test_a_failure_is_counted_under_its_own_cause_and_takes_no_other_with_it(
    deed: str, outcome: Outcome, reason: str, shape: str
) -> None:
    texts = ["12", deed, "13", "12"]
    with function(shape) as score:
        start = time.monotonic()
        scores = score([asked()] * 4, [said(text) for text in texts])
        took = time.monotonic() - start
    assert scores[1].outcome is outcome
    assert reason in scores[1].reason
    assert [scores[n].value for n in (0, 2, 3)] == [1.0, 0.0, 1.0]
    slack = 1.0 + (DEADLINE if shape == "batch" else 0.0)  # a batch is tried whole before it is tried one by one
    assert took < DEADLINE + slack + 1.0, "the last second is for other work on this machine"


@pytest.mark.parametrize(("deed", "value"), FINE)
def test_what_is_odd_but_answers_is_scored(deed: str, value: float) -> None:
    here, state, environment = Path.cwd(), random.getstate(), dict(os.environ)
    with function("single", 5.0) as score:
        scores = score([asked()] * 2, [said(deed), said("12")])
    assert [one.value for one in scores] == [value, 1.0]
    assert (Path.cwd(), random.getstate(), dict(os.environ)) == (here, state, environment)


def test_an_async_function_is_awaited() -> None:
    with function("slowly", 5.0) as score:
        scores = score([asked()] * 3, [said("12"), said("raise"), said("13")])
    assert [one.value for one in scores] == [1.0, None, 0.0]


@pytest.mark.parametrize(
    ("name", "reason"), [("too_few", "0 rewards for 1 completions"), ("generator", "a generator, not a list")]
)
def test_a_batch_function_that_returns_no_list_of_that_length_scores_nothing(name: str, reason: str) -> None:
    with function(name, 5.0) as score:
        scores = score([asked()] * 3, [said("12")] * 3)
    assert {one.outcome for one in scores} == {WRONG}
    assert all(reason in one.reason for one in scores)


def test_a_function_written_for_trl_gets_what_trl_gives() -> None:
    prompts = [Prompt("c", messages=chatted().messages, answer="12", metadata={"level": n}) for n in (1, 2)]
    with function("trl", 5.0) as score:
        assert [one.value for one in score(prompts, [said("a", 3), said("b", 4)])] == [3.1, 4.2]


def test_random_numbers_and_the_directory_depend_on_the_sample_only() -> None:
    texts = ["random", "world", "directory", "random", "random"]
    prompts = [Prompt(f"p{n}", messages=(Message("user", "a"),), answer="1") for n in (0, 1, 2, 0, 4)]
    with function("single", 5.0) as score:
        values = [one.value for one in score(prompts, [said(text) for text in texts])]
    assert values[0] == values[3] != values[4]
    assert values[2] == 0.0


def test_state_of_the_file_is_kept_between_calls() -> None:
    with function("counted", 5.0) as score:
        values = [one.value for _ in range(2) for one in score([asked()] * 2, [said("a")] * 2)]
    assert values == [1.0, 2.0, 3.0, 4.0]


def test_a_function_that_always_hangs_does_not_cost_a_deadline_each() -> None:
    with function("single", 0.15) as score:
        scores = score([asked()] * 32, [said("sleep")] * 32)
    assert [one.outcome for one in scores[:8]] == [LATE] * 8
    assert [one.reason for one in scores[8:16]] == ["not tried: 8 before it failed"] * 8
    assert sum(one.outcome is LATE for one in scores) == 10, "now and then one is tried again"


def test_with_no_patience_a_healthy_answer_behind_nine_that_hang_is_scored() -> None:
    texts = ["sleep"] * 9 + ["12"]
    for patience, reason in ((8, "not tried: 8 before it failed"), (0, "")):
        with Function(path=f"{FILE}:single", deadline=0.1, memory_gb=4, patience=patience).open() as score:
            last = score([asked()] * 10, [said(text) for text in texts])[-1]
        assert (last.value, last.reason) == (None if reason else 1.0, reason)


def test_a_request_that_dies_late_costs_one_deadline_and_is_counted_as_a_death() -> None:
    with function("late", 1.0) as score:
        assert score([asked()], [said("12")])[0].value == 1.0
        start = time.monotonic()
        found = score([asked()], [said("die late")])[0]
        took = time.monotonic() - start
    assert (found.outcome, "exited with 9" in found.reason) == (FAILED, True)
    assert took < 1.75, "0.9 s until it dies, a start, and what is left of the deadline"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{FILE}:missing", "no function 'missing' in it; its functions: .*single"),
        (f"{FILE}:number", "no function 'number'"),
        (f"{FILE}:nothing_known", "neither `completions`"),
        ("nowhere.py:f", "no file .*nowhere.py"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_when_it_is_opened(path: str, words: str) -> None:
    with pytest.raises(RewardError, match=words), Function(path=path).open():
        pass


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(completion:", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("raise SystemExit(1)", "SystemExit"),
        ("import os; os._exit(5)", "exited with 5"),
        ("while True: pass", "not loaded within 0.5 s"),
        ("\0", "SyntaxError|ValueError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_with_its_cause(source: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source, "utf-8")
    limit = 0.5 if "while" in source else 60.0
    reward = Function(path=f"{tmp_path / 'mine.py'}:f", start_deadline=limit)
    with pytest.raises(RewardError, match=words), reward.open():
        pass
    assert gone()


def test_a_function_that_wants_a_column_that_is_not_there_ends_the_run_by_name() -> None:
    with function("wants_more", 5.0) as score, pytest.raises(RewardError, match="it wants rubric, but the data gives"):
        score([asked()], [said("12")])


def test_a_column_of_the_data_is_handed_over() -> None:
    with function("wants_more", 5.0) as score:
        assert score([asked(rubric="be kind")], [said("12")])[0].value == 1.0


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "numbers.py").write_text("def half(): return 0.5\n")
    (tmp_path / "helpers_of_mine.py").write_text("def half(): return 0.5\n")
    (tmp_path / "mine.py").write_text("from helpers_of_mine import half\ndef f(completion): return half()\n")
    with Function(path=f"{tmp_path / 'mine.py'}:f").open() as score:
        assert score([asked()], [said("12")])[0].value == 0.5


ALONE = """
import sys
from klimb.rewards.function import Function
from tests.rewards.words import asked, said
with Function(path=sys.argv[1], deadline=600).open() as score:
    print("open", flush=True)
    score([asked()], [said("busy")])
"""


def test_a_worker_dies_with_the_process_that_started_it(root: Path) -> None:
    words = [sys.executable, "-c", ALONE, f"{FILE}:single"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "open\n"
        assert len(workers()) == 3, "the parent, the shepherd and its worker"
        parent.kill()
    assert gone()
