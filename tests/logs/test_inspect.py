"""What logs hold is counted right, in bounded memory and time; and the verdict follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from klimb import rollouts
from klimb.errors import DataError
from klimb.logs.against import read
from klimb.logs.counting import count
from klimb.logs.drawing import draw
from klimb.logs.estimating import log_probs
from klimb.logs.inspecting import Asked, inspect
from klimb.logs.page import lines, page
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Score, Transform


@pytest.fixture(scope="module")
def tiny() -> Policy:
    return load(PolicySettings(), 0)


def log_of(tiny: Policy, prompts: int = 120, answers: int = 2, shift: float = 0.0) -> list[Group]:
    """Answers of one to five random bytes, with the tiny model's own log-probs moved by `shift` a token."""
    draw = np.random.default_rng(0)
    groups = []
    for index in range(prompts):
        prompt = Prompt(f"p{index}", text=f"{index}=", tokens=(1, 20 + index % 50))
        done = [tuple(draw.integers(3, 250, 1 + (index + k) % 5).tolist()) for k in range(answers)]
        first = [Completion(tokens, (), "x", Finish.LENGTH) for tokens in done]
        logps = log_probs(tiny, [(prompt, one, Transform()) for one in first])
        rolled = tuple(
            Rollout(replace(one, logps=tuple(x + shift for x in values)), k, k, {"a": Score.of(k % 2)}, float(k % 2))
            for k, (one, values) in enumerate(zip(first, logps, strict=True))
        )
        groups.append(Group(prompt, rolled, version="v"))
    return groups


def test_logs_of_the_policy_itself_count_in_full(tmp_path: Path, tiny: Policy) -> None:
    rollouts.write(tmp_path / "a.parquet", log_of(tiny), 0)
    facts = inspect(tmp_path / "a.parquet", tiny)
    p = facts["policy"]
    assert p["effective"] == pytest.approx(240, abs=0.01)
    assert (p["rows"], p["outside"], p["mass"]) == (240, 0.0, pytest.approx(1, abs=1e-4))
    assert p["kl"][0] == pytest.approx(0, abs=1e-4)
    assert p["weighted"][0] == pytest.approx(0.5, abs=1e-4)
    assert [one["enough"] for one in facts["verdict"]] == [True, True, True]


def test_logs_of_another_policy_are_measured_against_it(tmp_path: Path, tiny: Policy) -> None:
    rollouts.write(tmp_path / "a.parquet", log_of(tiny, shift=2.0), 0)
    facts = inspect(tmp_path / "a.parquet", tiny)
    p = facts["policy"]
    lengths = np.array([len(r.completion.tokens) for g in log_of(tiny, shift=2.0) for r in g.rollouts])
    weights = np.exp(-2.0 * lengths)
    assert p["effective"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-3)
    assert p["mass"] == pytest.approx(weights.mean(), rel=1e-3)
    assert p["kl"][0] == pytest.approx(2.0 * lengths.mean(), rel=1e-4)
    reward = np.tile([0.0, 1.0], 120)
    shares = (1 - reward) + weights * (2 * reward - 1)  # guess + w (reward - guess): the guess is the other's reward
    assert p["robust"][0] == pytest.approx(shares.mean(), rel=1e-4)
    assert p["value"][0] == pytest.approx((weights * reward).mean(), rel=1e-4)
    assert (p["outside"], p["below"]) == (1.0, 1.0)
    assert [one["enough"] for one in facts["verdict"]] == [False, True, True]
    assert "the ratios have mean" in facts["verdict"][0]["why"]


def test_the_policy_is_asked_at_the_temperature_at_which_it_is_to_learn(tmp_path: Path, tiny: Policy) -> None:
    """Its ratios are to what drew a row at the row's own temperature; and its own answers are drawn at that one too."""
    made = [replace(group, transform=Transform(0.5)) for group in log_of(tiny, 60)]
    rollouts.write(tmp_path / "a.parquet", made, 0)
    rows = [(group.prompt, r.completion, group.transform) for group in made for r in group.rollouts]
    assert log_probs(tiny, rows, 0.5) == log_probs(tiny, rows)
    mu = torch.tensor([x for _, done, _ in rows for x in done.logps], dtype=torch.float64)
    found = {t: inspect(tmp_path / "a.parquet", tiny, Asked(most=120, temperature=t)) for t in (1.0, 0.5)}
    for temperature, facts in found.items():
        pi = torch.tensor([x for values in log_probs(tiny, rows, temperature) for x in values], dtype=torch.float64)
        assert facts["policy"]["kl_token"] == pytest.approx(float((mu - pi).mean()), rel=1e-5, abs=1e-7)
        assert f"at temperature {temperature:g}" in page(facts)
    assert found[1.0]["policy"]["kl_token"] == pytest.approx(0, abs=1e-6)
    assert found[0.5]["policy"]["kl_token"] > 0.01
    every = [Completion((token,), (-5.0,), "", Finish.LENGTH) for token in range(259)]
    chances = log_probs(tiny, [(rows[0][0], one, Transform()) for one in every])
    likeliest = Rollout(every[chances.index(max(chances))], 0, -1, {}, 1.0)
    rollouts.write(tmp_path / "a.parquet", [Group(rows[0][0], (likeliest,))], 0)
    shares = {t: inspect(tmp_path / "a.parquet", tiny, Asked(temperature=t))["coverage"]["whole"] for t in (1.0, 1e-4)}
    assert shares[1e-4] == 1.0 > shares[1.0]


def test_a_guess_of_a_rows_value_has_no_part_of_its_own_reward(tmp_path: Path) -> None:
    def group(text: str, *rewards: float | None) -> Group:
        done = Completion((5,), (-0.5,), "x", Finish.STOP)
        rows = tuple(Rollout(done, k, -1, {}, r) for k, r in enumerate(rewards))
        return Group(Prompt(text, text=text, tokens=(1, 2)), rows)

    rollouts.write(tmp_path / "a.parquet", [group("1", 0.0, 0.5, 1.0, None), group("2", 4.0)], 0)
    drawn = draw(count(tmp_path), 10, 0)
    assert (drawn.rows.tolist(), drawn.prompts[3] == drawn.prompts[0]) == ([0, 1, 2, 4], False)
    assert drawn.guesses.tolist() == [0.75, 0.5, 0.25, 0.5]


def test_the_rows_that_the_policy_is_asked_about_are_a_random_sample_of_those_that_are_fit(
    tmp_path: Path, tiny: Policy
) -> None:
    made = log_of(tiny, prompts=40, answers=8)
    unfit = [replace(group, transform=Transform(1.0, 0.9)) for group in made[:20]]
    rollouts.write(tmp_path / "a.parquet", [*unfit, *made[20:]], 0)
    rollouts.write(tmp_path / "b.parquet", made[:20], 0)
    counted = count(tmp_path)
    drawn = draw(counted, 96, 0)
    assert len(drawn.rows) == 96 and drawn.rows.min() >= 160 and (np.diff(drawn.rows) > 0).all()
    assert set((drawn.rows % 8).tolist()) == set(range(8)), "every place of a group"
    assert len(set(drawn.prompts.tolist())) == len(set((drawn.rows // 8).tolist()))
    assert set(draw(counted, 48, 0).rows) < set(drawn.rows)
    assert set(draw(counted, 96, 1).rows) != set(drawn.rows)
    assert len(draw(counted, 1000, 0).rows) == 320
    listed = [(p.id, done.logps) for p, done, _, _ in read(tmp_path, drawn.rows)]
    rows = [(group.prompt.id, r.completion.logps) for group in [*made, *made[:20]] for r in group.rollouts]
    assert [name for name, _ in listed] == [rows[row][0] for row in drawn.rows]
    assert all(logps == pytest.approx(rows[row][1]) for (_, logps), row in zip(listed, drawn.rows, strict=True))
    assert inspect(tmp_path, tiny, Asked(24))["policy"]["rows"] == 24
    (tmp_path / "only").mkdir()
    rollouts.write(tmp_path / "only/a.parquet", unfit, 0)
    assert len(draw(count(tmp_path / "only"), 10, 0).rows) == 10, "where no row is fit, of those with log-probs"


def test_prompts_are_told_by_content_and_success_by_prompt(tmp_path: Path) -> None:
    def group(name: str, text: str, *rewards: float | None) -> Group:
        done = Completion((), (), "x", Finish.STOP)
        return Group(Prompt(name, text=text), tuple(Rollout(done, k, -1, {}, r) for k, r in enumerate(rewards)))

    made = [group("a", "1", 0.0, 0.0), group("b", "1", 1.0), group("c", "2", 1.0, 1.0), group("d", "3", 0.0, 0.5)]
    rollouts.write(tmp_path / "a.parquet", [*made, group("e", "4", None)], 0)
    facts = inspect(tmp_path / "a.parquet")
    assert facts["prompts"] == {
        "different": 4, "several_ids": 1, "repeated_rows": 4, "alone": 1,
        "never": 1, "always": 1, "mixed": 1, "unscored": 1, "differing": 2,
    }  # fmt: skip
    assert (facts["rows"], facts["groups"], facts["scored"], facts["successes"]) == (8, 5, 7, 3)
    assert (
        "0 of 8 rows can be learned from; 5 of the groups left out: each has no token ids" in facts["verdict"][0]["why"]
    )
    assert inspect(tmp_path / "a.parquet", success=0.5)["successes"] == 4


def test_prompts_that_are_tokens_only_are_told_apart(tmp_path: Path) -> None:
    done = (Rollout(Completion((1,), (), "x", Finish.STOP), 0, -1),)
    rollouts.write(tmp_path / "a.parquet", [Group(Prompt("p", tokens=(n,)), done) for n in (1, 2, 2)], 0)
    assert inspect(tmp_path / "a.parquet")["prompts"]["different"] == 2


def test_scores_are_counted_by_source_and_outcome(root: Path) -> None:
    facts = inspect(root / "tests/golden/rollouts-2.0.parquet")
    assert facts["sources"]["judge"] == {"outcomes": {"timed_out": 1}, "values": None}
    assert facts["sources"]["exact"]["outcomes"] == {"scored": 3}
    assert facts["sources"]["exact"]["values"]["mean"] == pytest.approx(1 / 3)
    assert (facts["logged"], facts["estimated"], facts["cut_support"]) == (1, 1, 2)
    assert facts["estimators"] == {"tiny": 1}


def test_scores_of_more_sources_than_are_told_apart_are_counted(tmp_path: Path) -> None:
    scores = {f"s{number}": Score.of(1.0) for number in range(70)}
    done = tuple(Rollout(Completion((), (), "x", Finish.STOP), k, -1, scores, 1.0) for k in range(2))
    rollouts.write(tmp_path / "a.parquet", [Group(Prompt("p", text="q"), done)], 0)
    facts = inspect(tmp_path / "a.parquet")
    assert (len(facts["sources"]), facts["further_scores"]) == (64, 12)
    assert "more scores  12 of further sources: only 64 are told apart" in lines(facts)


def test_the_page_says_what_the_lines_say_and_escapes_what_the_log_says(root: Path, tmp_path: Path) -> None:
    done = Completion((), (), "x", Finish.STOP)
    odd = Rollout(done, 0, -1, {"<script>": Score.of(1.0)}, 1.0)
    rollouts.write(tmp_path / "a.parquet", [Group(Prompt("p", text="q"), (odd,))], 0)
    facts = inspect(tmp_path / "a.parquet")
    text = page(facts)
    assert "<script>" not in text
    assert "score &lt;script&gt;" in text
    assert facts["verdict"][0]["why"] in text
    assert lines(facts)[-1].startswith("not enough for supervised")


def test_a_folder_is_all_of_its_files_and_nothing_is_an_error(tmp_path: Path, tiny: Policy) -> None:
    (tmp_path / "run/rollouts").mkdir(parents=True)
    for step in (1, 2):
        rollouts.write(tmp_path / f"run/rollouts/step-{step}.parquet", log_of(tiny, 3), step)
    facts = inspect(tmp_path / "run")
    assert (facts["rows"], facts["groups"]) == (12, 6)
    for bad in (tmp_path / "none.parquet", tmp_path):
        with pytest.raises(DataError):
            inspect(bad)
    rollouts.write(tmp_path / "empty.parquet", [], 0)
    with pytest.raises(DataError, match="at least one row"):
        inspect(tmp_path / "empty.parquet")


def test_the_policys_own_answers_are_looked_for_in_the_logs(tmp_path: Path, tiny: Policy) -> None:
    """Of every byte as an answer, of an answer that nobody gives, and of every byte as its beginning."""
    prompts = [Prompt(f"p{index}", text="", tokens=(1, 30 + index)) for index in range(4)]
    every = [Completion((token,), (-5.0,), "", Finish.LENGTH) for token in range(259)]
    odd = Completion((0, 0, 0), (-5.0,) * 3, "", Finish.LENGTH)

    def written(*rows: tuple[Completion, ...]) -> dict[str, Any]:
        groups = [
            Group(prompt, tuple(Rollout(one, k, k, {}, float(k % 2)) for k, one in enumerate(done)))
            for prompt, done in zip(prompts, rows, strict=False)
        ]
        rollouts.write(tmp_path / "a.parquet", groups, 0)
        facts = inspect(tmp_path / "a.parquet", tiny, Asked(16))
        assert "coverage" in "\n".join(lines(facts)) and "coverage" in page(facts)
        return dict(facts["coverage"])

    full = written(tuple(every))
    assert full == {"prompts": 1, "samples": 4, "whole": 1.0, "begun": 1.0, "logged": 259.0}
    none = written((odd,), (odd, odd))
    assert none == {"prompts": 2, "samples": 8, "whole": 0.0, "begun": 0.0, "logged": 1.0}
    pairs = written(tuple(replace(one, tokens=(token, 0), logps=(-5.0, -5.0)) for token, one in enumerate(every)))
    assert pairs["whole"] < 0.5 and pairs["begun"] >= 0.5, "each answer begins like a logged one"
    again = written((odd,))
    assert again == written((odd,)), "the same answers each time"


def test_only_the_first_rows_of_long_logs_are_looked_at_for_coverage(
    tmp_path: Path, tiny: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klimb.logs.covering.ROWS", 1)
    for name in ("a", "b"):
        rollouts.write(tmp_path / f"{name}.parquet", log_of(tiny, prompts=60), 0)
    assert inspect(tmp_path, tiny)["coverage"]["prompts"] == 50, "those of the first file"


def test_a_log_without_a_prompt_that_fits_has_no_coverage(tmp_path: Path, tiny: Policy) -> None:
    from klimb.logs.covering import cover

    strange = replace(log_of(tiny, 1)[0], prompt=Prompt("p", text="x", tokens=(999,)))
    rollouts.write(tmp_path / "a.parquet", [strange], 0)
    assert cover(tiny, tmp_path / "a.parquet", 8) is None
