"""Code against tests: what counts as passed, in every form of tests; what is no test is never a number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from klimb.errors import RewardError
from klimb.recipe import Recipe
from klimb.rewards.base import Scorer
from klimb.rewards.code import Code, code_of
from klimb.rewards.sandbox import judge as judging
from klimb.rewards.sandbox import tiers
from klimb.rewards.sandbox.asserts import NoTest, asserts_of
from klimb.rewards.sandbox.box import Box, Limits
from klimb.rewards.sandbox.seccomp import filter_for
from klimb.rewards.sandbox.values import lines, literal
from klimb.run import train
from klimb.rundir import RunDir
from klimb.types import Outcome
from tests.faults.runs import SETTINGS
from tests.rewards.words import asked, said

ASSERTS = ["import math", "assert add(1, 2) == 3", "assert math.isclose(add(1, 1), 2)", "assert not add(0, 0)"]
PAIRS = [{"input": "3", "output": "4"}, {"input": "5\n", "output": "6\n"}]
ADD = "So:\n```python\ndef add(a, b):\n    return 7\n```\nor rather\n```python\ndef add(a, b):\n    return a + b\n```\n"


@pytest.fixture(scope="module")
def score() -> Iterator[Scorer]:
    with Code(tier="limits", deadline=20).open() as scorer:
        yield scorer


@pytest.mark.parametrize(
    ("tests", "code", "value"),
    [
        (ASSERTS, ADD, 1.0),
        ("\n".join(ASSERTS), "def add(a, b): return 3", 1 / 3),
        (json.dumps(ASSERTS), "def add(a, b): return 1 / 0", 0.0),
        (ASSERTS, "no Python at all", 0.0),
        (["assert f(2) == [1, {'a': (2.5, None)}]"], "def f(n): return [1, {'a': (n + .5, None)}]", 1.0),
        (["assert set(f()) == {1, 2} and f()[0] < 2"], "def f(): return [1, 2]", 1.0),
        (["assert S(2).twice() == 4"], "class S:\n  def __init__(s, n): s.n = n\n  def twice(s): return 2 * s.n", 1.0),
        (["assert all(x > 0 for x in f())"], "def f(): return 1, 2", 1.0),
        (PAIRS, "print(int(input()) + 1)", 1.0),
        (PAIRS, "print(4)", 0.5),
        (PAIRS, "print(int(input()) + 1); raise ValueError", 0.0),
        ({"inputs": ["3", "5"], "outputs": ["4", "6"]}, "print(int(input()) + 1, '  ')\nprint()", 1.0),
        ([{"input": ["1", "2"], "output": 3}], "print(int(input()) + int(input()))", 1.0),
    ],
)
def test_the_score_is_the_share_of_tests_passed(score: Scorer, tests: Any, code: str, value: float) -> None:
    (found,) = score([asked(tests=tests)], [said(code)])
    assert found.value == pytest.approx(value), found


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        (None, "no tests in the row"), ([], "no tests, or more"), (3, "no tests in the row"), ("[1", "are none"),
        ("x = 1", "without an assert"), ("assert (", "not Python"), (["x.append(f())", "assert x"], "neither"),
        ("assert all(f(x) for x in [1])", "inside a loop"), ("assert (lambda x: f(x))(1)", "inside a loop"),
        ("assert (y := f())", "binds a name"), ("y = f(1)\nassert y == 2", "needs the code under test"),
        ([{"input": "3"}], "without input and output"), ({"inputs": ["3"], "outputs": []}, "1 inputs for 0"),
        ({"inputs": "3"}, "without the lists"), ("assert 1 == 2 #" + "x" * 70000, "letters"),
    ],
)  # fmt: skip
def test_a_row_without_usable_tests_is_unscorable(score: Scorer, tests: Any, why: str) -> None:
    (found,) = score([asked(tests=tests)], [said(ADD)])
    assert found.outcome is Outcome.UNSCORABLE
    assert why in found.reason


def test_the_setup_column_is_there_for_both_sides() -> None:
    with Code(tier="limits", setup="before", deadline=20).open() as score:
        row = asked(tests=["assert f(BASE) == BASE * half(4)"], before="BASE = 21\ndef half(x): return x // 2")
        assert score([row], [said("def f(n): return 2 * n")])[0].value == 1.0


def test_all_or_nothing_and_exact_and_the_whole_text() -> None:
    with Code(tier="limits", score_by="all", compare="exact", source="whole", deadline=20).open() as score:
        rows = [asked(tests=PAIRS), asked(tests=[{"input": "3", "output": "4\n"}]), asked(tests=ASSERTS)]
        codes = [said("print(4)"), said("print(4)"), said(ADD)]
        assert [one.value for one in score(rows, codes)] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(("late", "outcome"), [("failed", Outcome.SCORED), ("timed_out", Outcome.TIMED_OUT)])
def test_running_out_of_time_is_what_the_setting_says(late: Any, outcome: Outcome) -> None:
    with Code(tier="limits", late=late, deadline=1.0).open() as score:
        (found,) = score([asked(tests=PAIRS)], [said("while True: pass")])
    assert found.outcome is outcome
    assert not found.value


def test_code_is_the_last_fenced_block_even_one_that_is_not_closed() -> None:
    assert code_of("a\n```py\nx = 1\n```\nb\n```\ny = 2\n", "fence") == "y = 2\n"
    assert code_of("y = 2", "fence") == "y = 2"
    assert code_of("```\ny\n```", "whole") == "```\ny\n```"


def test_a_sandbox_that_does_not_stand_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with Code(tier="limits").open() as score:
        monkeypatch.setattr(Box, "command", lambda *_: ["/bin/sh", "-c", "echo no namespaces >&2; exit 1"])
        found = score([asked(tests=PAIRS), asked(tests=ASSERTS)], [said(ADD)] * 2)
    assert [one.outcome for one in found] == [Outcome.INFRA_FAILED] * 2
    assert "no namespaces" in found[0].reason


def test_below_the_wanted_tier_it_refuses_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    rewards = [{"type": "code"}]
    with pytest.raises(RewardError, match=r"sandbox of tier namespaces.*no bwrap.*bubblewrap 0.8"):
        train(Recipe.model_validate(SETTINGS | {"rewards": rewards}), run=tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_run_logs_the_tier_and_what_the_source_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"say {n}", "answer": "1", "tests": [{"input": "", "output": "1"}]} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:16]), "utf-8")
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[16:]), "utf-8")
    data = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl"), "held_out": str(tmp_path / "held.jsonl")}
    settings = SETTINGS | {"data": data | {"columns": ["tests"]}, "training": {"steps": 1, "micro_tokens": 64}}
    settings |= {"rewards": [{"type": "code", "tier": "limits", "deadline": 20.0}], "evaluation": {"problems": 2}}
    settings |= {"source": {"prompts": 2, "completions": 2}, "trackers": []}
    events = RunDir.open(train(Recipe.model_validate(settings), run=tmp_path / "run").path).read_events()
    (told,) = [event for event in events if event["kind"] == "reward"]
    assert "sandbox of tier" in told["how"]
    assert "sandbox of tier" in capsys.readouterr().out
    (cost,) = [event for event in events if event["kind"] == "reward_cost"]
    assert (cost["source"], cost["completions"], cost["failed"]) == ("code", 8, 0)
    assert 0 < cost["median_s"] <= cost["p95_s"] <= cost["seconds"]


def test_a_tier_that_does_not_hold_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "_tried", lambda box: "networks are seen" if box.tier == "namespaces" else "")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(RewardError, match="bubblewrap: networks are seen"), tiers.open_box("namespaces", Limits()):
        pass
    with tiers.open_box("limits", Limits()) as box:
        assert box.tier == "limits"


def test_expected_values_do_not_reach_the_code_under_test(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    real = judging.run

    def spied(box: Box, kind: str, source: str, given: bytes = b"", calls: str = "") -> Any:
        sent.append((source, calls))
        return real(box, kind, source, given, calls)

    monkeypatch.setattr(judging, "run", spied)
    with Code(tier="limits", deadline=20).open() as score:
        assert score([asked(tests=["assert f(1) == 97531"])], [said("def f(n): return 97531")])[0].value == 1.0
    (code, calls), (nothing, judged) = sent
    assert "97531" not in calls
    assert nothing == ""
    assert "97531" in judged
    assert code not in judged


def test_asserts_come_apart_at_the_code_under_test() -> None:
    tests = asserts_of("assert f(g(1))[0] == LIMIT and len(f(2)) < 3")
    assert tests.calls == ("f(g(1))[0]", "LIMIT", "f(2)")
    assert tests.claims == ("klimb_value_0 == klimb_value_1 and len(klimb_value_2) < 3",)
    assert tests.judging(["1", "1", None])[1] == []
    with pytest.raises(NoTest):
        asserts_of("assert await f()")


@pytest.mark.parametrize(
    "answer",
    [3, [], ["value"], ["value", 3], ["value", ["is", 1]], ["value", ["int", "__import__"]], ["value", ["str", 3]],
     ["value", ["float", "1); x("]], ["value", ["set", [["int"]]]], ["value", ["odd", 1]], ["raised", "E"],
     ["value", ["complex", "1); x("]], ["value", ["bytes", "zz"]], ["value", [["list"], []]]],
)  # fmt: skip
def test_what_is_no_value_becomes_no_literal(answer: Any) -> None:
    assert literal(answer) is None


def test_deep_and_broken_lines_are_not_values() -> None:
    deep: Any = ["int", "0x1"]
    for _ in range(70):
        deep = ["list", [deep]]
    assert literal(["value", deep]) is None
    assert lines(b'["value", 1]\n{broken\n["value", 2]\n') == [["value", 1]]
    assert lines(b"[" * 100_000 + b"\n") == []
    assert literal(["value", ["float", float("nan")]]) == "float('nan')"


def test_the_filter_of_system_calls_is_whole_for_known_machines_alone() -> None:
    assert len(filter_for("x86_64")) % 8 == 0
    assert filter_for("x86_64") != filter_for("aarch64")
    assert filter_for("sparc") == b""
