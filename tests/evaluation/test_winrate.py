"""Win rate: who wins, what a tie and a failure are, both orders, the interval, and where a run shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import klimb
from klimb import examine, rollouts
from klimb.cli import evaluating
from klimb.cli.places import place
from klimb.cli.training import summary
from klimb.errors import CheckpointError, DataError, KlimbError, SettingsError
from klimb.evaluation.base import Evaluate, Evaluation
from klimb.evaluation.intervals import wilson
from klimb.evaluation.winrate import WinRate, win_rate
from klimb.rewards import Judge
from klimb.rundir import RunDir
from klimb.types import Completion, Finish, Group, Outcome, Prompt, Rollout, Score
from tests.generation.helpers import answer, served
from tests.rewards.test_judge import verdict


def groups(*texts: str) -> list[Group]:
    done = [Completion((1,), (-1.0,), text, Finish.EOS) for text in texts]
    prompts = [Prompt(f"p{place}", text="?", answer="right") for place in range(len(texts))]
    return [Group(p, (Rollout(one, 0, 0),)) for p, one in zip(prompts, done, strict=True)]


class Lengths:
    """Scores an answer by its length; what says so cannot be scored."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        self.asked += [one.text for one in completions]
        bad = Score(Outcome.UNSCORABLE, reason="so")
        return [bad if one.text.startswith("bad") else Score.of(float(len(one.text))) for one in completions]


def test_the_higher_score_wins_a_tie_is_a_half_and_what_cannot_be_scored_is_in_neither() -> None:
    judge = Lengths()
    exam = WinRate(lambda _: ({}, []), judge, pairwise=False, start=Path("none"))
    before = groups("aa", "bb", "cc", "bad", "dd", "same")
    won, failed = exam.against(before, groups("aaa", "b", "xx", "eee", "bad", "same", "new"))
    assert won == {"p0": 1.0, "p1": 0.0, "p2": 0.5, "p5": 0.5} and failed == 2
    assert "same" not in judge.asked and "new" not in judge.asked
    count = len(judge.asked)
    assert exam.against(before, groups("a", "b", "c", "e", "d", "f"))[1] == 1
    assert judge.asked[count:] == ["a", "b", "c", "e", "d", "f", "same"], "a first answer is scored once"


def test_the_rate_has_the_interval_of_its_prompts_and_none_is_no_rate() -> None:
    low, high = wilson(2.5, 4)
    assert win_rate({"a": 1.0, "b": 1.0, "c": 0.5, "d": 0.0}, 3) == {
        "eval/win": 0.625, "eval/win_low": low, "eval/win_high": high, "eval/win_n": 4.0, "eval/win_failed": 3.0,
    }  # fmt: skip
    assert win_rate({}, 2) == {"eval/win_failed": 2.0}


def test_a_language_model_is_shown_both_answers_in_both_orders() -> None:
    seen: list[tuple[str, str]] = []

    def handle(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        material = json.loads(body["messages"][1]["content"])
        seen.append((material["A"], material["B"]))
        better = {"good": "A" if material["A"] == "good" else "B", "vain": "A"}
        answer(handler, verdict({"reason": "", "better": better.get("vain" if "vain" in seen[-1] else "good")}))

    with served(handle) as url:
        settings = Evaluate(win=Judge(url=url, deadline=2.0, retries=0, parallel=1))
        assert settings.pairwise
        with settings.judge() as judge:
            exam = WinRate(lambda _: ({}, []), judge, pairwise=True, start=Path("none"))
            won, failed = exam.against(groups("old", "old", "good"), groups("good", "vain", "worse"))
    assert (won, failed) == ({"p0": 1.0, "p1": 0.5, "p2": 0.0}, 0)
    assert seen[:2] == [("good", "old"), ("old", "good")] and len(seen) == 6


def test_a_run_shows_how_often_its_answers_beat_the_first_ones(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["training.steps=2", "evaluation.problems=8", "evaluation.win={type: length, most: 1}"]
    result = klimb.train(klimb.load_recipe(root / "recipes/tiny-dpo.yaml", *words), run=tmp_path / "run")
    assert "eval/win" not in result.before and result.after["eval/win_n"] == 8 and result.after["eval/win_failed"] == 0
    run = RunDir.open(result.path)
    lengths = [
        {g.prompt.id: len(g.rollouts[0].completion.tokens) for g in klimb.rollouts.read(run.evaluation(step))}
        for step in (0, 2)
    ]
    noted = {g.prompt.id: g.rollouts[0].scores for g in klimb.rollouts.read(run.evaluation(2))}
    assert all("eval/win" in scores for scores in noted.values()) and sum(
        scores["eval/win"].value or 0.0 for scores in noted.values()
    ) / 8 == pytest.approx(result.after["eval/win"])
    for name, scores in noted.items():
        assert lengths[0][name] != lengths[1][name] or scores["eval/win"].value == 0.5
    assert "of 8 held-out prompts (a tie is a half)" in result.report.read_text("utf-8")
    assert "win rate" in summary(result)
    (cost,) = [one for one in run.read_events() if one["kind"] == "reward_cost" and one["source"] == "evaluation.win"]
    assert (cost["calls"], cost["failed"]) == (1, 0) and cost["completions"] <= 16

    found = measured(run.path)
    assert found.won.items() <= result.after.items() and found.won["eval/win_n"] == 8
    more = klimb.load_recipe(root / "recipes/tiny-dpo.yaml", *words, "training.steps=3")
    fork = klimb.train(more, run=tmp_path / "fork", fork=f"{run.path}@2")
    assert fork.after["eval/win_n"] == 8 and RunDir.open(fork.path).read_metrics()[0]["step"] == 3
    (anew,) = [one["what"] for one in RunDir.open(fork.path).read_events() if one["kind"] == "begun_anew"]
    assert anew == ["remembered"], "made for the parent's data"
    first, own = (klimb.rollouts.read(RunDir.open(at).evaluation(0)) for at in (run.path, fork.path))
    assert [group.rollouts[0].completion for group in own] == [group.rollouts[0].completion for group in first]

    monkeypatch.setattr("klimb.start._check_optimizer", lambda *_: None)  # which refuses this one before it has begun
    free = klimb.load_recipe(root / "recipes/tiny-dpo.yaml", *words, "training.steps=3", "optimizer.type=schedule_free")
    with pytest.raises(CheckpointError, match="another optimizer"):
        klimb.train(free, run=tmp_path / "other", fork=f"{run.path}@2")
    assert not RunDir.open(tmp_path / "other").evaluation(0).exists(), "nothing is drawn before the checkpoint fits"


def measured(run: Path) -> Evaluation:
    """What `klimb evaluate` finds of a run."""
    where = place(str(run))
    return examine.measure(evaluating.settings_of(where, [], None), step=where.step, before=where.before)


def test_a_model_that_is_no_run_has_nothing_to_win_against(root: Path, tmp_path: Path) -> None:
    words, first = ("evaluation.win={type: length}", "evaluation.problems=4"), tmp_path / "step-000000.parquet"
    recipe = klimb.load_recipe(root / "recipes/tiny-dpo.yaml", *words)
    with pytest.raises(KlimbError, match=r"a model, which is no run.*evaluation\.win=null"):
        examine.measure(recipe)
    with pytest.raises(KlimbError, match=r"no .*step-000000\.parquet.*klimb evaluate RUN"):
        examine.measure(recipe, before=first)
    rollouts.write(first, groups("another"), 0)
    with pytest.raises(DataError, match="none of 4 held-out prompts"):
        examine.measure(recipe, before=first)


def test_without_answers_from_before_training_nobody_can_win(root: Path) -> None:
    words = ("evaluation.win={type: length}", "evaluation.start=false")
    with pytest.raises(SettingsError, match=r"evaluation\.start=true"):
        klimb.load_recipe(root / "recipes/tiny-dpo.yaml", *words)
    with pytest.raises(SettingsError, match=r"evaluation\.win"):
        klimb.load_recipe(root / "recipes/tiny-reward-model.yaml", words[0])


def test_settings_that_say_nothing_of_who_wins_are_refused(root: Path) -> None:
    for win, found in (
        ("{type: length, weight: 2.0}", "weight=2.0: .*leave weight out"),
        ("{type: judge, name: mine, against: answer, best: 5}", "name=mine, against=answer, best=5: .*leave name, ag"),
    ):
        with pytest.raises(SettingsError, match=found):
            klimb.load_recipe(root / "recipes/tiny-dpo.yaml", f"evaluation.win={win}")
    judge = "rewards=[{type: judge, against: answer, best: 5}]"
    with pytest.raises(SettingsError, match=r"grade answers from 0 to 5 .*leave best out"):
        klimb.load_recipe(root / "recipes/tiny-dpo.yaml", judge, "evaluation.correct=judge")


def test_an_answer_with_nothing_in_it_loses_and_two_of_them_are_a_tie_whoever_gave_them() -> None:
    class Never:
        def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
            assert [one.text for one in completions] == ["!!"]
            return [Score.of(0.0, "no word in it")]

    rate = WinRate(lambda step: ({}, []), Never(), pairwise=True, start=Path("none"))
    won, failed = rate.against(groups("Answer:", "??", "a word"), groups("!!", "a word", "!!"))
    assert (won, failed) == ({"p0": 0.5, "p1": 1.0, "p2": 0.0}, 0)


def test_a_first_answer_that_could_not_be_scored_is_asked_again() -> None:
    class Once(Lengths):
        def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
            broken = Score(Outcome.INFRA_FAILED, reason="down") if not self.asked else None
            found = super().__call__(prompts, completions)
            return [found[0], broken or found[1], *found[2:]]

    rate = WinRate(lambda step: ({}, []), Once(), pairwise=False, start=Path("none"))
    assert rate.against(groups("ab"), groups("abc")) == ({}, 1)
    assert rate.against(groups("ab"), groups("abc")) == ({"p0": 1.0}, 0)
