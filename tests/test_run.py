"""Runs: continued, refused, forked, finished, diverged; and the same from Python as from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import klimb
from klimb.config import resolve
from klimb.errors import CheckpointError, DataError, Diverged, ModelError, RunError, SettingsError
from klimb.objectives.rpg import RPG
from klimb.recipe import Recipe
from klimb.rollouts import read
from klimb.rundir import RunDir
from tests.faults.runs import SETTINGS, content


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(**changes: Any) -> Recipe:
    settings = json.loads(json.dumps(SETTINGS))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        settings[section] = {**settings[section], key: value} if key else value
    return resolve(Recipe, settings)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("done") / "run"
    klimb.train(recipe(), run=path)
    return path


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


def test_a_run_leaves_everything_that_a_reader_needs(done: Path) -> None:
    names = {path.relative_to(done).as_posix() for path in done.rglob("*")}
    assert {"config.json", "environment.json", "metrics.jsonl", "events.jsonl", "report.html"} <= names
    assert {"rollouts/step-000001.parquet", "rollouts/step-000009.parquet", "evaluations/step-000000.parquet"} <= names
    assert {"step-000008", "step-000009"} == {path.name for path in (done / "checkpoints").iterdir()}
    assert (done / "checkpoints/step-000009/model/model.safetensors").is_file()
    steps = [json.loads(line)["step"] for line in (done / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(10))


def test_two_runs_of_the_same_settings_are_the_same_and_another_seed_is_not(done: Path, tmp_path: Path) -> None:
    klimb.train(recipe(), run=tmp_path / "again")
    again, first = content(tmp_path / "again"), content(done)
    assert [name for name in first if first[name] != again[name]] == []
    klimb.train(recipe(seed=1), run=tmp_path / "other")
    assert content(tmp_path / "other")["metrics.jsonl"] != first["metrics.jsonl"]


def test_a_finished_run_is_not_run_again(copy: Path) -> None:
    before = content(copy)
    result = klimb.train(recipe(), run=copy)
    assert result.step == 9 and result.model == copy / "checkpoints/step-000009/model"
    assert result.before["eval/n"] == result.after["eval/n"] == 8.0
    assert content(copy) == before


def test_other_settings_are_refused_with_each_difference(copy: Path) -> None:
    with pytest.raises(RunError) as caught:
        klimb.train(recipe(optimizer__lr=0.1, seed=4), run=copy)
    assert "optimizer.lr: 0.003 -> 0.1" in str(caught.value) and "seed: 0 -> 4" in str(caught.value)
    assert "fork" in caught.value.cure


def test_other_data_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"data": "0" * 64}))
    with pytest.raises(RunError, match="the content of the data"):
        klimb.train(recipe(), run=copy)


def test_a_run_may_go_on_for_longer_and_keep_more_checkpoints(copy: Path) -> None:
    result = klimb.train(recipe(training__steps=11, checkpoints__keep=3), run=copy)
    assert result.step == 11
    config = json.loads((copy / "config.json").read_text())
    assert config["settings"]["training"]["steps"] == 11
    with pytest.raises(RunError, match=r"training\.steps: 11 -> 10"):
        klimb.train(recipe(training__steps=10, checkpoints__keep=3), run=copy)


def test_a_broken_checkpoint_is_named_and_the_one_before_it_leads_to_the_same_end(copy: Path, done: Path) -> None:
    weights = copy / "checkpoints/step-000009/optimizer.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
    klimb.train(recipe(), run=copy)
    events = [json.loads(line) for line in (copy / "events.jsonl").read_text().splitlines()]
    broken = [event for event in events if event["kind"] == "broken_checkpoint"]
    assert [event["checkpoint"] for event in broken] == ["step-000009"]
    assert "optimizer.safetensors" in broken[0]["why"]
    assert content(copy) == content(done)


def test_a_fork_begins_with_the_weights_of_its_origin_and_may_have_other_settings(done: Path, tmp_path: Path) -> None:
    path = tmp_path / "fork"
    klimb.train(recipe(optimizer__lr=0.0, training__steps=9), run=path, fork=f"{done}@8")
    steps = [json.loads(line)["step"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [9]
    origin, ended = (
        load_file(p / "model/model.safetensors")
        for p in (done / "checkpoints/step-000008", path / "checkpoints/step-000009")
    )
    assert all(torch.equal(origin[name], ended[name]) for name in origin)
    with pytest.raises(RunError, match="a run is there"):
        klimb.train(recipe(), run=path, fork=f"{done}@8")


def test_a_fork_that_was_interrupted_before_its_first_checkpoint_begins_there_again(done: Path, tmp_path: Path) -> None:
    path, parent = tmp_path / "fork", RunDir.open(done)
    wanted = recipe(training__steps=10, evaluation__win={"type": "length", "most": 1})
    klimb.train(wanted, run=path, fork=f"{done}@8")
    whole, own = content(path), RunDir.open(path)
    shutil.rmtree(path / "checkpoints")
    klimb.train(wanted, run=path)
    assert content(path) == whole
    first, drawn = ([group.rollouts[0].completion for group in read(run.evaluation(0))] for run in (parent, own))
    assert drawn == first, "the first answers are those of the weights that the first run began with"
    versions = [{group.version for group in read(run.rollout(step))} for run, step in ((parent, 9), (own, 9))]
    assert versions[0] == versions[1] != {group.version for group in read(parent.rollout(1))}


@pytest.mark.parametrize(
    ("fork", "error", "text"),
    [
        ("{done}", RunError, "no RUN@STEP"),
        ("{done}@x", RunError, "no RUN@STEP"),
        ("nowhere@3", RunError, "no such folder"),
        ("{done}@3", CheckpointError, "step-000008"),
    ],
)
def test_a_fork_from_nothing_is_refused(
    fork: str, error: type[Exception], text: str, done: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        klimb.train(recipe(), run=tmp_path / "fork", fork=fork.format(done=done))


def test_after_three_steps_that_are_not_finite_the_run_returns_to_its_checkpoint_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = RPG.loss

    def spoiled(self: RPG, now: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        terms = real(self, now, batch)
        return klimb.batch.Terms(terms.loss * float("nan"), terms.metrics) if calls > 12 else terms

    monkeypatch.setattr(RPG, "loss", spoiled)
    path = tmp_path / "run"
    with pytest.raises(Diverged) as caught:
        klimb.train(recipe(), run=path)
    assert "3 steps in a row" in caught.value.found and "the weights are those of step" in caught.value.found
    assert (path / "report.html").is_file()
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["optim/skipped"] > 0 for line in lines[-3:]] == [True] * 3
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    assert {"skipped", "diverged", "stopped"} <= {event["kind"] for event in events}
    assert "loss was not finite" in next(event["what"] for event in events if event["kind"] == "skipped")


def test_where_every_checkpoint_is_broken_nothing_is_forgotten(copy: Path) -> None:
    for state in copy.glob("checkpoints/*/state.json"):
        state.write_text("{}")
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="step-000008 is broken"):
        klimb.train(recipe(), run=copy)
    assert (copy / "metrics.jsonl").read_bytes() == before


def test_a_run_that_ended_before_it_did_anything_takes_other_settings(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        klimb.train(recipe(model={"name": "./nope"}), run=tmp_path / "run")
    assert klimb.train(recipe(training__steps=1), run=tmp_path / "run").step == 1


def test_a_reward_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def f(prompt, completion, answer):\n    return 1.0\n")
    rewards = [{"type": "exact"}, {"type": "function", "path": f"{mine}:f"}]
    klimb.train(recipe(rewards=rewards, training__steps=1), run=tmp_path / "run")
    mine.write_text("def f(prompt, completion, answer):\n    return -1.0\n")
    with pytest.raises(RunError, match=r"the file .*mine\.py"):
        klimb.train(recipe(rewards=rewards, training__steps=2), run=tmp_path / "run")


def test_a_report_that_was_not_written_is_written_when_the_run_is_asked_for_again(copy: Path) -> None:
    (copy / "report.html").unlink()
    klimb.train(recipe(), run=copy)
    assert (copy / "report.html").is_file()


def test_prompts_that_do_not_fit_are_all_named_before_training(tmp_path: Path) -> None:
    rows = [{"prompt": "a" * (600 if index in (3, 7) else 5), "answer": "1"} for index in range(20)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(row | {"prompt": row["prompt"] + str(n)}) for n, row in enumerate(rows)))
    with pytest.raises(DataError) as caught:
        klimb.train(
            recipe(data={"type": "jsonl", "path": str(data), "form": "text", "share": 0.2}), run=tmp_path / "run"
        )
    assert "cannot be used" in caught.value.found
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_generator_that_is_another_policy_needs_importance_weights(done: Path, tmp_path: Path) -> None:
    replay = {"type": "replay", "path": str(done / "rollouts")}
    with pytest.raises(SettingsError, match=r"training\.correction\.type=truncate"):
        recipe(generator=replay)
    made = recipe(
        generator=replay, training__correction={"type": "truncate"}, training__steps=2, model={"name": "tiny"}
    )
    klimb.train(made, run=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all(line["policy/gap"] > 0.001 for line in lines[1:]), "the old policy is not the one that drew"


def test_a_fork_into_an_objective_that_carries_more_begins_that_anew_and_says_so(done: Path, tmp_path: Path) -> None:
    path = tmp_path / "fork"
    kl = {"control": {"target": 0.01}, "refresh": {"every": 50}, "where": "reward", "estimator": "k1"}
    chosen = {"type": "reinforce", "baseline": "moving", "beta": 0.1, "kl": kl, "allow_bias": True}
    settings = json.loads(json.dumps(SETTINGS)) | {"objective": chosen}
    settings["training"]["steps"] = 10
    klimb.train(resolve(Recipe, settings), run=path, fork=f"{done}@8")
    (told,) = [event for event in RunDir.open(path).read_events() if event["kind"] == "begun_anew"]
    assert told["what"] == ["baseline", "controller", "reference"]
    line = next(line for line in RunDir.open(path).read_metrics() if line["step"] == 9)
    assert (line["objective/baseline"], line["objective/kl_coefficient"]) == (0.0, 0.1)
    assert line["policy/reference_age"] == 1.0
