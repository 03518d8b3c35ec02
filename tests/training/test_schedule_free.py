"""Schedule-Free AdamW: y samples, is scored and learns; x is evaluated and saved; nothing is lost in between."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schedulefree
import torch
from safetensors.torch import load_file
from torch import nn

import klimb
from klimb import rollouts
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.training.base import ScheduleFree
from klimb.training.schedule import learning_rate
from klimb.training.schedule_free import MasterScheduleFree
from tests.faults.runs import SETTINGS, content
from tests.faults.test_kill import Child, kill

OPTIONS = ScheduleFree(lr=0.05, betas=(0.8, 0.9), weight_decay=0.1, warmup=4, clip=1e9)
FREE: dict[str, Any] = {"type": "schedule_free", "lr": 0.003}


def linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2).to(dtype)


def opened(model: nn.Module, options: ScheduleFree = OPTIONS) -> MasterScheduleFree:
    return MasterScheduleFree(model.named_parameters(), options)


def pushed(model: nn.Module, optimizer: MasterScheduleFree, step: int) -> None:
    optimizer.begin(1)
    inputs = torch.full((4, 3), float(step), dtype=next(model.parameters()).dtype)
    model(inputs).square().sum().backward()
    optimizer.step(learning_rate(optimizer.settings, step, 100), optimizer.norm())


def settings(**sections: Any) -> dict[str, Any]:
    return json.loads(json.dumps({**SETTINGS, "optimizer": FREE})) | sections


def test_ten_updates_equal_those_of_the_package_with_its_own_warm_up() -> None:
    ours, theirs = linear(), linear()
    optimizer = opened(ours)
    package = schedulefree.AdamWScheduleFree(
        theirs.parameters(), lr=0.05, betas=(0.8, 0.9), weight_decay=0.1, warmup_steps=4, foreach=False
    )
    package.train()
    for step in range(1, 11):
        pushed(ours, optimizer, step)
        package.zero_grad()
        theirs(torch.full((4, 3), float(step))).square().sum().backward()
        package.step()
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)
    package.eval()
    assert torch.equal(optimizer.master["weight"], theirs.weight)


def test_the_three_points_follow_the_papers_equations() -> None:
    model = linear()
    optimizer = opened(model, OPTIONS.model_copy(update={"warmup": 0}))
    y = model.weight.detach().numpy().astype(np.float64)
    z, x, second = y.copy(), y.copy(), np.zeros_like(y)
    for step in range(1, 8):
        optimizer.begin(1)
        model(torch.full((4, 3), float(step))).square().sum().backward()
        gradient = optimizer.gradients()["weight"].numpy().astype(np.float64)
        optimizer.step(0.05, optimizer.norm())
        second = 0.9 * second + 0.1 * gradient**2
        direction = gradient / (np.sqrt(second / (1 - 0.9**step)) + 1e-8)
        z = z - 0.05 * (direction + 0.1 * y)
        x = (1 - 1 / step) * x + z / step
        y = 0.2 * z + 0.8 * x
        np.testing.assert_allclose(model.weight.detach().numpy(), y, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(optimizer.master["weight"].numpy(), x, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_is_there_inside_and_the_point_of_gradients_is_back_to_the_bit(dtype: torch.dtype) -> None:
    model = linear(dtype)
    optimizer = opened(model)
    with optimizer.averaged() as others:
        assert not others, "before the first update there is nothing to average"
    for step in range(1, 6):
        pushed(model, optimizer, step)
    before, kept = model.weight.detach().clone(), optimizer.y["weight"].clone()
    average = optimizer.master["weight"]
    with optimizer.averaged() as others:
        assert others
        assert torch.equal(model.weight, average.to(dtype))
        assert (model.weight - before).abs().max() > 0.005
    assert torch.equal(model.weight, before)
    assert torch.equal(optimizer.y["weight"], kept)


def test_small_updates_of_bfloat16_parameters_are_not_lost_and_parts_add_up_in_float32() -> None:
    model = linear(torch.bfloat16)
    optimizer = opened(model, ScheduleFree(lr=1e-5, warmup=0, clip=1e9))
    start = optimizer.y["weight"].clone()
    for _ in range(50):
        optimizer.begin(2)
        for _ in range(2):
            model(torch.ones(4, 3, dtype=torch.bfloat16)).sum().backward()
        assert optimizer.gradients()["bias"].dtype == torch.float32
        assert optimizer.gradients()["bias"].tolist() == [8.0, 8.0]
        optimizer.step(1e-5, optimizer.norm())
    moved = start - optimizer.y["weight"]
    assert moved.min() > 1e-4, "fifty steps of 1e-5, averaged"
    assert torch.equal(model.weight, optimizer.y["weight"].bfloat16())
    optimizer.close()
    model(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    assert model.bias.grad is not None, "the hooks are gone"


def test_a_larger_gradient_is_scaled_down_to_the_clip_and_a_bad_one_is_named() -> None:
    model = linear()
    optimizer = opened(model, OPTIONS.model_copy(update={"clip": 0.5}))
    optimizer.begin(1)
    model(torch.ones(4, 3)).square().sum().backward()
    assert optimizer.bad_gradients() == []
    gradient, norm = optimizer.gradients()["weight"].clone(), optimizer.norm()
    assert norm > 0.5
    optimizer.step(0.05, norm)
    torch.testing.assert_close(optimizer.state()["second.weight"], 0.1 * (gradient * 0.5 / norm) ** 2)
    assert optimizer.gradients() == {}
    model(torch.ones(4, 3)).sum().backward()
    model.bias.grad[1] = float("inf")
    assert optimizer.bad_gradients() == ["bias"]
    optimizer.clear()
    assert optimizer.norm() == 0.0


def test_a_restored_state_goes_on_to_the_same_bits() -> None:
    model, other = linear(), linear()
    optimizer, fresh = opened(model), opened(other)
    for step in range(1, 6):
        pushed(model, optimizer, step)
    fresh.restore(optimizer.master, {name: t.clone() for name, t in optimizer.state().items()}, 5)
    for step in range(6, 12):
        pushed(model, optimizer, step)
        pushed(other, fresh, step)
    assert optimizer.count == fresh.count == 11
    assert optimizer.state().keys() == fresh.state().keys()
    assert all(torch.equal(value, fresh.state()[name]) for name, value in optimizer.state().items())


def test_a_parameter_without_a_gradient_stays_and_is_restored() -> None:
    model = linear()
    optimizer = opened(model)
    optimizer.begin(1)
    (model.weight.sum() * 2).backward()
    optimizer.step(0.05, optimizer.norm())
    assert "z.weight" in optimizer.state() and "z.bias" not in optimizer.state()
    fresh = opened(linear())
    fresh.restore(optimizer.master, optimizer.state(), 1)
    assert torch.equal(fresh.master["bias"], linear().bias)
    assert "z.bias" not in fresh.state()


def test_without_the_package_the_settings_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "schedulefree" else real(name))
    with pytest.raises(SettingsError, match=r"pip install 'klimb\[schedulefree\]'"):
        resolve(Recipe, settings())


def test_a_schedule_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"optimizer\.schedule has no such choice.*one of: constant"):
        resolve(Recipe, settings(optimizer={**FREE, "schedule": "cosine"}))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("free") / "run"
    klimb.train(resolve(Recipe, settings(evaluation={"every": 1, "problems": 8})), run=path)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_what_sampled_is_what_old_log_probs_are_of_though_every_step_is_evaluated_elsewhere(done: Path) -> None:
    gaps = [line["policy/gap_max"] for line in lines(done)[1:]]
    assert max(gaps) < 1e-5, "old log-probs are measured before the first of two passes"
    state = load_file(done / "checkpoints/step-000009/optimizer.safetensors")
    saved = load_file(done / "checkpoints/step-000009/model/model.safetensors")
    gap = max(float((saved[name] - state[f"y.{name}"]).abs().max()) for name in saved if f"y.{name}" in state)
    assert gap > 1e-3, "the average is another policy: to sample from it would show"


def test_evaluations_see_the_average_and_the_model_that_is_saved_is_the_average(done: Path) -> None:
    folder = done / "checkpoints/step-000009"
    model, state = load_file(folder / "model/model.safetensors"), load_file(folder / "optimizer.safetensors")
    for name in (name.removeprefix("z.") for name in state if name.startswith("z.")):
        y, z = state[f"y.{name}"], state[f"z.{name}"]
        torch.testing.assert_close(0.1 * z + 0.9 * model[name], y, rtol=1e-5, atol=1e-6)
    exported = load(PolicySettings(name=str(folder / "model")))
    asked = rollouts.read(done / "evaluations/step-000009.parquet")
    drawn = rollouts.read(done / "rollouts/step-000009.parquet")
    assert {group.version for group in asked} == {exported.version()}
    assert {group.version for group in drawn}.isdisjoint({exported.version()})


def test_how_often_a_run_is_evaluated_and_saved_changes_nothing_about_it(done: Path, tmp_path: Path) -> None:
    rare = settings(evaluation={"every": 9, "problems": 8}, checkpoints={"every": 9, "keep": 1})
    klimb.train(resolve(Recipe, rare), run=tmp_path / "run")
    files = sorted(path.name for path in (done / "rollouts").iterdir())
    assert len(files) == 9
    assert all((done / "rollouts" / n).read_bytes() == (tmp_path / "run/rollouts" / n).read_bytes() for n in files)
    last = "checkpoints/step-000009/optimizer.safetensors"
    assert (done / last).read_bytes() == (tmp_path / "run" / last).read_bytes()


def test_a_killed_run_goes_on_to_the_same_bytes(done: Path, tmp_path: Path) -> None:
    chosen = settings(evaluation={"every": 1, "problems": 8})
    for moment in (("train", 7), ("evaluate", 6)):
        kill(tmp_path / "run", moment, 0.001, chosen)
    child = Child(tmp_path / "run", chosen)
    child.stages()
    assert child.wait() == 0
    ended, wanted = content(tmp_path / "run"), content(done)
    assert ended.keys() == wanted.keys()
    assert [name for name in ended if ended[name] != wanted[name]] == []
