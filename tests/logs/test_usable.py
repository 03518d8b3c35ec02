"""The verdict on logs is that of training: what `sources.fitness.unfit` leaves out, the inspection leaves out."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from klimb import rollouts
from klimb.logs.inspecting import inspect
from klimb.logs.page import page
from klimb.sources.base import Demands
from klimb.sources.fitness import unfit
from klimb.sources.replayed import Replayed
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Transform

TRANSFORMS = (
    Transform(), Transform(0.7), Transform(0.0), Transform(1.0, 0.9), Transform(1.0, 1.0, 40), Transform(known=False),
    Transform(1.0, forking=(1.0, 1.2, 1.0)),
)  # fmt: skip


def group(
    index: int, transform: Transform, rows: tuple[tuple[str, float | None], ...], age: int | None = None
) -> Group:
    """Of each answer: l logged, e estimated, n no log-probs, t no tokens; and its reward."""
    made = []
    for k, (kind, reward) in enumerate(rows):
        tokens = () if kind == "t" else (5, 2)
        logps = (-0.5, -0.25) if kind in "le" else ()
        done = Completion(tokens, logps, "x", Finish.EOS, estimated="tiny" if kind == "e" else "")
        made.append(Rollout(done, k, -1, {}, reward))
    prompt = Prompt(f"p{index}", text=str(index), tokens=() if transform == Transform(0.7) and age == 2 else (1, 9))
    return Group(prompt, tuple(made), transform, age=age)


def every() -> list[Group]:
    kinds = ("l", "e", "n", "t", "le", "ln", "lt")
    rewards = ((None, None), (0.0, 1.0), (None, 1.0))
    return [
        group(index, transform, tuple(zip(kind, reward, strict=False)), age)
        for index, (transform, kind, reward, age) in enumerate(product(TRANSFORMS, kinds, rewards, (None, 2)))
    ]


@pytest.mark.parametrize(("name", "weighted"), [("weighted", True), ("plain", False)])
def test_the_inspection_leaves_out_the_groups_that_training_leaves_out(
    tmp_path: Path, name: str, weighted: bool
) -> None:
    groups = every()
    rollouts.write(tmp_path / "a.parquet", groups, 0)
    reasons = [unfit(Replayed(logs=tmp_path), one, Demands(weighted=weighted)) for one in groups]
    facts = inspect(tmp_path / "a.parquet")["fit"][name]
    assert facts["left"] == {reason: reasons.count(reason) for reason in reasons if reason}
    assert facts["groups"] == reasons.count("")
    good = [r for one, reason in zip(groups, reasons, strict=True) if not reason for r in one.rollouts]
    assert facts["rows"] == sum(r.reward is not None for r in good)
    assert facts["successes"] == sum(r.reward == 1.0 for r in good)
    of_weights = {"no log-probs", "estimated", "unknown sampling", "truncated", "greedy"} if weighted else set()
    assert set(facts["left"]) == {"replayed", "no tokens", "no score"} | of_weights


def verdict(tmp_path: Path, transform: Transform, kind: str) -> list[tuple[bool | None, str]]:
    rows = ((kind, 0.0), (kind, 1.0))
    rollouts.write(tmp_path / "a.parquet", [group(index, transform, rows) for index in range(120)], 0)
    facts = inspect(tmp_path / "a.parquet")
    assert all(one["why"].split(":")[0] in page(facts) for one in facts["verdict"])
    return [(one["enough"], one["line"]) for one in facts["verdict"]]


def test_what_no_run_can_weigh_is_not_enough_and_what_no_policy_was_asked_about_is_not_known(tmp_path: Path) -> None:
    (weighted, line), (pairs, _), (good, _) = verdict(tmp_path, Transform(), "l")
    assert (weighted, pairs, good) == (None, True, True)
    assert line.startswith("not known for importance-weighted objectives") and "--policy MODEL" in line
    (weighted, line), (pairs, _), (good, _) = verdict(tmp_path, Transform(1.0, 0.9), "l")
    assert (weighted, pairs, good) == (False, True, True)
    assert "0 of 240 rows can be learned from; 120 of the groups left out: each was drawn with top_p" in line
    (weighted, line), (pairs, _), _ = verdict(tmp_path, Transform(known=False), "e")
    assert (weighted, pairs) == (False, True)
    assert "try: source.estimated=true" in line
    assert [one[0] for one in verdict(tmp_path, Transform(), "t")] == [False, False, False]
