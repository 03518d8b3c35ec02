"""What a lens says of a step's learning is what the step learned by: the training's own batches are watched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import klimb
from klimb.batch import Batch
from klimb.config import resolve
from klimb.lens.view import View
from klimb.look import run_views
from klimb.recipe import Recipe
from klimb.retrace import INITIAL, reference_of
from klimb.rundir import RunDir
from klimb.training import step as training
from tests.faults.runs import SETTINGS

KL = {"where": "reward", "estimator": "k1"}
STEERED = KL | {"control": {"target": 1e-4, "gain": 1.0, "limit": 0.9}, "refresh": {"every": 2}}
REINFORCE = {"type": "reinforce", "baseline": "moving", "decay": 0.5, "beta": 0.5, "kl": STEERED, "allow_bias": True}


REST = [("batch", 1), ("micro", 1), ("row", 3)]


def run(path: Path, monkeypatch: pytest.MonkeyPatch, steps: int = 4, **changes: Any) -> list[list[Batch]]:
    """Trains; gives what `weigh` was given and gave, in order, step by step."""
    seen: list[list[Batch]] = []
    real, learn = training.weigh, training.learn

    def weigh(batch: Batch, *words: Any) -> Batch:
        seen[-1].append(real(batch, *words))
        return seen[-1][-1]

    def learning(*words: Any) -> Any:
        seen.append([])
        return learn(*words)

    monkeypatch.setattr(training, "weigh", weigh)
    monkeypatch.setattr("klimb.training.loop.learn", learning)
    torch.set_num_threads(1)
    settings = json.loads(json.dumps(SETTINGS)) | {
        "source": {"prompts": 4, "completions": 4},
        "training": {"steps": steps, "micro_tokens": 48},
        "checkpoints": {"every": 1, "keep": 99},
    }
    klimb.train(resolve(Recipe, settings | changes), run=path)
    return seen


def by_key(values: Any, batch: Batch) -> dict[int, list[float]]:
    """A value of each token by the completion's own seed."""
    assert batch.key is not None
    return {int(key): values[batch.row == row].tolist() for row, key in enumerate(batch.key)}


def of_view(view: View, name: str) -> dict[int, list[float]]:
    seeds = [one.seed for group in view.groups for one in group.rollouts]
    return {seed: view.values[name][view.row == row].tolist() for row, seed in enumerate(seeds)}


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(REINFORCE, id="everything"),
        pytest.param(REINFORCE | {"beta": 0.0, "kl": KL}, id="moving", marks=pytest.mark.slow),
        pytest.param({"type": "rloo", "beta": 0.5}, id="kl"),
        pytest.param({"type": "dapo"}, id="plain", marks=pytest.mark.slow),
    ],
)
def test_advantages_are_those_that_the_step_learned_by(
    objective: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = run(tmp_path / "run", monkeypatch, objective=objective)
    for step, (batch,) in enumerate(seen, 1):
        (view,) = run_views(tmp_path / "run", step)
        found, wanted = of_view(view, "advantage"), by_key(batch.advantage, batch)
        assert found.keys() == wanted.keys()
        for seed, values in wanted.items():
            assert found[seed] == pytest.approx(values, abs=1e-5), (step, seed)
        assert not [line for line in view.missing if "advantage" in line]


def test_an_advantage_that_cannot_be_known_is_not_shown_and_the_page_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    run(path, monkeypatch, objective=REINFORCE)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("objective/baseline", None)
    shutil.copytree(path, tmp_path / "other")
    (tmp_path / "other/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (view,) = run_views(tmp_path / "other", 3)
    assert "advantage" not in view.values
    assert "no objective/baseline for step 3" in " ".join(view.missing)
    for step in (1, 2, 3):
        shutil.rmtree(path / f"checkpoints/step-{step:06d}")
    (view,) = run_views(path, 3)
    assert "advantage" not in view.values
    assert "no checkpoint holds the one of this step" in " ".join(view.missing) or "advantages" in view.missing[0]
    assert "kept" in view.values


def test_the_reference_of_a_step_is_found_in_the_checkpoint_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refreshed after every second step: of steps 1 and 2 it is the initial one, of 3 and 4 that after step 2."""
    path = tmp_path / "run"
    run(path, monkeypatch, steps=5, objective=REINFORCE)
    rundir = RunDir.open(path)
    held = [reference_of(rundir, step) for step in (1, 2, 3, 4, 5)]
    assert held[:2] == [INITIAL, INITIAL]
    assert [Path(str(one)).parent.name for one in held[2:]] == ["step-000002", "step-000002", "step-000004"]
    for step in (2, 3):
        shutil.rmtree(path / f"checkpoints/step-{step:06d}")
    assert [reference_of(rundir, step) for step in (2, 3, 4)] == [INITIAL, None, None]


@pytest.mark.parametrize(
    ("population", "minibatches"),
    [("batch", 3), ("micro", 3), ("row", 1), *(pytest.param(*rest, marks=pytest.mark.slow) for rest in REST)],
)
def test_kept_tokens_are_those_that_the_first_pass_kept(
    population: str, minibatches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector = {"type": "top", "share": 0.3, "population": population}
    source = {"prompts": 4, "completions": 4, "epochs": 2, "minibatches": minibatches}
    seen = run(tmp_path / "run", monkeypatch, 2, objective={"type": "dapo"}, selector=selector, source=source)
    for step, batches in enumerate(seen, 1):
        (view,) = run_views(tmp_path / "run", step)
        wanted: dict[int, list[float]] = {}
        for batch in batches[:minibatches]:
            wanted |= by_key(batch.learn.float(), batch)
        assert of_view(view, "kept") == wanted


def test_a_choice_by_the_current_policy_is_made_again_by_the_policy_before_the_step_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    selector = {"type": "top", "share": 0.3, "entropy": {"of": "current", "temperature": 3.0}}
    seen = run(path, monkeypatch, 3, objective={"type": "dapo"}, selector=selector)
    for step, (batch,) in enumerate(seen, 1):
        (view,) = run_views(path, step)
        assert of_view(view, "kept") == by_key(batch.learn.float(), batch)
    shutil.rmtree(path / "checkpoints/step-000002")
    (view,) = run_views(path, 3)
    assert "kept" not in view.values
    assert "entropy.of=current" in " ".join(view.missing)


def test_a_critics_advantages_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "run", monkeypatch, 1, objective={"type": "ppo"})
    (view,) = run_views(tmp_path / "run", 1)
    assert "advantage" not in view.values
    assert "the critic's values" in " ".join(view.missing)
    assert view.values["kept"].all()
