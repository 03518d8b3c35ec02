"""The report of a run with several sources: their scores, what they cost, how they hang together, who is gamed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from klimb import rollouts
from klimb.rundir import RunDir
from klimb.tracking import proxies, report
from klimb.tracking.arms import chosen
from klimb.tracking.report import render
from klimb.tracking.sources import Cost
from klimb.tracking.story import tell
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Score, Transform

REWARDS = [
    {"type": "length", "name": "proxy", "weight": 1.0},
    {"type": "exact", "name": "judge", "weight": 0},
    {"type": "format", "name": "never", "weight": 0.5},
]


def group(number: int) -> Group:
    """Three answers that the proxy and the judge rank the other way round."""
    done = [
        Rollout(
            Completion((1,) * k, (-1.0,) * k, "x", Finish.EOS), k, k, {"proxy": Score.of(k), "judge": Score.of(-k)}, k
        )
        for k in (1, 2, 3)
    ]
    return Group(Prompt(f"p{number}", text="?", tokens=(1,)), tuple(done), Transform(), "v")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Forty steps: the proxy rises all the way, the judge up to step 20 and then falls."""
    made = RunDir.create(tmp_path / "run", {"settings": {"rewards": REWARDS, "training": {"steps": 40}}})
    with made.own():
        for step in range(1, 41):
            judge = min(step, 40 - step) / 20
            scores = {"reward/mean": step / 40, "reward/proxy": step / 40, "reward/judge": judge}
            signs = {"hacking/with_judge": 1 - step / 20, "policy/kl_ref": (step / 40) ** 2, "length/mean": 4.0}
            made.append_metrics({"step": step, **scores, **signs})
        for step in (39, 40):
            rollouts.write(made.rollout(step), [group(1), group(2)], step)
        for seconds in (1.0, 3.0):
            made.event("reward_cost", source="proxy", completions=100, failed=2, seconds=seconds, causes={"slow": 2})
    return made


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "draw", lambda *_, **__: "<svg></svg>")


def test_sources_are_told_with_their_scores_costs_and_course(run: RunDir) -> None:
    proxy, judge, never = tell(run).sources.rows
    assert proxy.score == pytest.approx((2.5 / 40, 38.5 / 40)) and proxy.weight == 1.0 and proxy.course is None
    assert proxy.cost == Cost(200, 4, "slow", 4.0)
    assert judge.cost is None and judge.followed == pytest.approx((1 - 2.5 / 20, 1 - 38.5 / 20))
    assert judge.course is not None and judge.course.gamed and judge.course.step == 20 and judge.course.sure
    assert never.score is None and never.cost is None


def test_the_table_of_correlations_is_of_the_newest_answers(run: RunDir) -> None:
    found = tell(run).sources
    assert (found.names, found.table, found.answers) == (["proxy", "judge"], [[1.0, -1.0], [-1.0, 1.0]], 12)


def test_the_page_shows_them_and_says_that_the_reward_is_gamed(run: RunDir) -> None:
    page = re.sub(r"<[^>]+>", " ", render(tell(run)))
    assert "judge, which is not trained on, was best at step 20 (0.925) and is 0.075" in page
    assert "The reward is being gamed." in page and "0: not trained on" in page and "most often: slow" in page
    assert re.search(r"proxy\s+length\s+1\s+0.0625 → 0.963\s+-\s+200\s+4\s+4.00 s\s+20 ms", page), page
    assert "over 12 answers of the newest steps" in page and "Which source gave the reward" not in page


def test_the_proxy_is_drawn_over_the_distance_that_the_policy_went(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(proxies, "draw", lambda *found, **_: seen.append(found) or "<svg></svg>")
    render(tell(run))
    ((key, _, (reward, judge)),) = seen
    assert key == "proxy-judge" and len(reward.steps) == 20
    assert reward.steps[0] == pytest.approx((4 * (1 + 4) / 2 / 1600) ** 0.5) and reward.values[-1] == 1.0
    assert max(judge.values) == 1.0 and judge.values[-1] == pytest.approx((0.025 - 0.075) / 0.9)


def test_rollouts_that_cannot_be_read_are_told_as_missing(run: RunDir) -> None:
    run.rollout(40).write_bytes(b"no parquet")
    story = tell(run)
    assert any(line.startswith("correlations of the sources") for line in story.missing) and not story.sources.table
    assert "How the sources hang together" not in render(story)


def test_an_account_that_is_no_number_is_left_out(run: RunDir) -> None:
    with run.events_file.open("a") as file:
        file.write(json.dumps({"kind": "reward_cost", "source": "judge", "completions": "many", "time": ""}) + "\n")
    assert tell(run).sources.rows[1].cost is None


def one_asked(kind: str, arm: str) -> Group:
    answer = Rollout(Completion((1,), (-1.0,), "x", Finish.EOS), 0, 0, {arm: Score.of(1), "judge": Score.of(0)}, 1.0)
    return Group(Prompt(f"{kind}-{arm}", answer=kind, metadata={"side": kind.upper()}), (answer,), Transform(), "v")


def test_the_choices_of_a_bandit_are_told_by_kind_of_prompt(tmp_path: Path) -> None:
    groups = [one_asked("a", "proxy"), one_asked("b", "never"), one_asked("b", "proxy"), one_asked("b", "never")]
    for by, names in (("", ["a", "b"]), ("side", ["A", "B"])):
        settings = {"rewards": REWARDS, "combining": {"type": "selected"}, "evaluation": {"by": by}}
        made = RunDir.create(tmp_path / f"run{by}", {"settings": settings})
        with made.own():
            rollouts.write(made.rollout(1), groups, 1)
        story = tell(made)
        assert story.sources.arms == ["proxy", "never"]
        rows = [(row.kind, row.prompts, row.shares) for row in story.sources.chosen]
        assert rows == [(names[0], 1, (1.0, 0.0)), (names[1], 3, (1 / 3, 2 / 3))]
        page = re.sub(r"<[^>]+>", " ", render(story))
        assert re.search(rf"Which source for which prompts.*{names[1]}\s+3\s+33 %\s+67 %", page, re.DOTALL), page
    assert [row.kind for row in chosen(groups, ["proxy", "never"], "no column")] == ["all"]
    assert chosen([group(1)], ["proxy", "judge"], "") == [], "both were asked: nobody chose"
    many = [one_asked(str(number), "proxy") for number in range(13)]
    assert [(row.kind, row.prompts) for row in chosen(many, ["proxy"], "")] == [("all", 13)]
