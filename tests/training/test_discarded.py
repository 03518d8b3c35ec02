"""Groups that dynamic sampling leaves out: written apart, counted, and never taken for what was learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import klimb
from klimb import rollouts
from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.logs.counting import files_of
from klimb.look import run_views
from klimb.objectives import Objective, Reinforce
from klimb.recipe import Recipe
from klimb.rundir import RunDir
from tests.faults.runs import SETTINGS
from tests.objectives.kit import EVERY, named
from tests.training.toy import groups


def settings(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(SETTINGS))
    found["source"] = {"prompts": 4, "completions": 4, "dynamic": 2}
    return found | {"objective": {"type": "dapo"}, "training": {"steps": 3, "micro_tokens": 64}} | changes


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("dynamic") / "run"
    klimb.train(resolve(Recipe, settings()), run=path)
    return path


def test_they_are_written_apart_and_counted(done: Path) -> None:
    rundir, seen = RunDir.open(done), 0
    for line in rundir.read_metrics()[1:]:
        step = line["step"]
        used = rollouts.read(rundir.rollout(step))
        left = rollouts.read(rundir.discarded(step)) if rundir.discarded(step).exists() else []
        seen += len(left)
        tokens = [sum(len(r.completion.tokens) for g in some for r in g.rollouts) for some in (used, left)]
        assert line["group/discarded"] == len(left)
        assert line["group/drawn"] == len(used) + len(left)
        assert (line["tokens/sampled"], line["tokens/discarded"]) == (sum(tokens), tokens[1])
    assert seen > 0


def test_readers_do_not_take_them_for_what_was_learned_from(done: Path) -> None:
    assert [path.name for path in files_of(done)] == [f"step-{step:06d}.parquet" for step in (1, 2, 3)]
    (view,) = run_views(done, 2)
    assert len(view.groups) == len(rollouts.read(RunDir(done).rollout(2)))


def test_a_recording_with_them_repeats_the_run(done: Path, tmp_path: Path) -> None:
    generator = {"type": "replay", "path": str(done / "rollouts")}
    training = {"steps": 3, "micro_tokens": 64, "correction": {"type": "truncate", "cap": 1e6}}
    klimb.train(resolve(Recipe, settings(generator=generator, training=training)), run=tmp_path / "again")
    for step in (1, 2, 3):
        one, other = (rollouts.read(RunDir(path).rollout(step)) for path in (done, tmp_path / "again"))
        assert [[r.completion for r in g.rollouts] for g in one] == [[r.completion for r in g.rollouts] for g in other]


def test_what_is_later_than_the_checkpoint_is_forgotten(done: Path) -> None:
    rundir = RunDir.open(done)
    late = rundir.discarded(7)
    late.write_bytes(b"")
    rundir.truncate_after(3)
    assert not late.exists()
    assert rundir.rollout(3).exists()


@pytest.mark.parametrize("kind", ["reinforce_pp", "reinforce_pp_baseline", "ppo"])
def test_an_objective_that_compares_prompts_refuses_to_leave_some_out(kind: str) -> None:
    with pytest.raises(SettingsError, match=r"answers of different prompts.*source\.dynamic=0"):
        resolve(Recipe, settings(objective={"type": kind}))
    resolve(Recipe, settings(objective={"type": kind, "allow_bias": True}))


@pytest.mark.parametrize(
    "objective", [*EVERY, *(Reinforce(baseline=name) for name in ("none", "batch", "moving"))], ids=named
)
def test_leaving_groups_of_equal_rewards_out_changes_no_advantage_unless_the_objective_says_so(
    objective: Objective,
) -> None:
    """`beyond_group` is what it says, in both directions, for every objective of the catalog."""
    whole = Batch.of(groups(prompts=4, completions=4, seed=5)).replace(carried={"baseline": 0.3})
    flat = whole.group >= 2
    reward = torch.where(flat, torch.ones_like(whole.reward), torch.arange(whole.rows) % 3 / 2)
    logp = torch.full((whole.tokens.numel(),), -1.0)
    whole = whole.replace(reward=reward, old=logp, ref=logp)
    some = whole.take(torch.nonzero(~flat).flatten())
    full, part = objective.advantage(whole).advantage, objective.advantage(some).advantage
    assert full is not None and part is not None
    nothing = not full[flat[whole.row]].any() or getattr(objective, "buffer", 0) > 0  # lengths are punished beside it
    same = torch.allclose(full[~flat[whole.row]], part) and nothing
    assert same is not objective.beyond_group
