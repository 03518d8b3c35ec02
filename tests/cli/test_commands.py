"""The commands on the tiny model: train, go on, evaluate, sample, report."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from klimb.cli import main

RECIPE = """\
model: {name: tiny}
data: {type: echo-digit}
rewards: [{type: exact}]
objective: {type: grpo}
source: {prompts: 2, completions: 4}
sampling: {max_tokens: 2}
training: {steps: 2}
evaluation: {every: 10, problems: 8}
checkpoints: {every: 1, keep: 2}
"""


def klimb(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "echo.yaml").write_text(RECIPE)
    assert klimb("train", folder / "echo.yaml", f"run={folder / 'run'}") == 0
    return folder / "run"


def test_a_run_that_is_done_tells_before_and_after_and_does_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = (run / "metrics.jsonl").read_bytes()
    assert klimb("train", run.parent / "echo.yaml", f"run={run}") == 0
    out = capsys.readouterr().out
    assert f"{run}: 2 steps" in out
    assert "accuracy" in out
    assert f"report: {run / 'report.html'}" in out
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_other_settings_are_refused_with_the_difference(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert klimb("train", run.parent / "echo.yaml", f"run={run}", "optimizer.lr=0.5") == 8
    said = capsys.readouterr().err
    assert "optimizer.lr: 1e-05 -> 0.5" in said
    assert "Traceback" not in said


def test_a_dry_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert klimb("train", run.parent / "echo.yaml", "--dry-run") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_evaluated_as_it_evaluated_itself(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert klimb("evaluate", run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    own = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert found["step"] == own["step"] == 2
    of_run = {name: own[name] for name in own if name.startswith("eval/") and not name.startswith("eval/gain")}
    assert {name: found[name] for name in found if name.startswith("eval/")} == of_run


def test_another_number_of_problems_can_be_asked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert klimb("evaluate", run, "evaluation.problems=5", "--step", "1") == 0
    out = capsys.readouterr().out
    assert "of 5" in out
    assert "step       1" in out


def test_a_model_is_evaluated_on_a_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert klimb("evaluate", "tiny", "--recipe", run.parent / "echo.yaml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["eval/n"] == 8


def test_a_run_answers_the_same_for_the_same_seed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for seed in ("1", "1", "2"):
        assert klimb("sample", run, "what?", "--seed", seed, "--max-tokens", "12") == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] != answers[2]


def test_a_question_comes_from_stdin_and_no_control_character_goes_out(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert klimb("sample", run, "--text", "--max-tokens", "64", "--temperature", "5") == 0
    out = capsys.readouterr().out
    assert not [letter for letter in out.strip("\n\t") if letter < " " and letter not in "\n\t"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert klimb("sample", run) == 2


def test_a_chat_remembers_and_ends(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from klimb.cli import sampling
    from klimb.types import Prompt

    asked: list[Prompt] = []

    def answer(prompt: Prompt, turn: int) -> str:
        asked.append(prompt)
        return f"answer {turn}\x1b[2J"

    said = iter(["hi", "", "again", "/new", "fresh", "/quit"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.input", lambda _: next(said))
        sampling._chat(answer, sampling.Wanted(1.0, 1.0, 8, 0, "be brief", False), "tiny")
    assert [[m.content for m in prompt.messages] for prompt in asked] == [
        ["be brief", "hi"],
        ["be brief", "hi", "answer 0\x1b[2J", "again"],
        ["be brief", "fresh"],
    ]
    assert "answer 2" in capsys.readouterr().out


def test_a_broken_checkpoint_is_named_and_the_one_before_is_used(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    state = copy / "checkpoints" / "step-000002" / "state.json"
    state.write_bytes(state.read_bytes()[:-1])
    assert klimb("evaluate", copy, "--json") == 0
    both = capsys.readouterr()
    assert json.loads(both.out)["step"] == 1
    assert "passed over step-000002" in both.err
    assert klimb("evaluate", copy, "--step", "2") == 7
    assert "state.json" in capsys.readouterr().err
    assert klimb("evaluate", copy, "--step", "9") == 7
    assert "steps that are there: 1, 2" in capsys.readouterr().err


def test_a_report_is_made_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.html").unlink()
    assert klimb("report", run) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert "<html" in (run / "report.html").read_text()
