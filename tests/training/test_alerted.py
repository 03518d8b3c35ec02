"""A run that an alert stops: one line, its own exit code, everything saved; the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import klimb
from klimb.config import resolve
from klimb.errors import Alerted
from klimb.recipe import Recipe
from klimb.rundir import RunDir
from tests.faults.runs import SETTINGS, content


def recipe(*alerts: dict[str, Any]) -> Recipe:
    return resolve(Recipe, json.loads(json.dumps(SETTINGS)) | {"alerts": list(alerts)})


def test_an_alert_stops_the_run_saved_and_the_run_ends_as_if_it_had_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alert = {"type": "metric", "metric": "length/mean", "above": 0.5, "steps": 5, "stop": True}
    path = tmp_path / "run"
    with pytest.raises(Alerted) as caught:
        klimb.train(recipe(alert), run=path)
    assert caught.value.exit_code == 10
    assert "length/mean is" in caught.value.found
    assert capsys.readouterr().out.count("\nalert  rule: metric length/mean") == 1
    events = [event for event in RunDir.open(path).read_events() if event["kind"] == "alert"]
    assert [(event["step"], event["stop"]) for event in events] == [(5, True)]
    assert (path / "checkpoints" / "step-000005" / "MANIFEST.json").is_file()
    assert klimb.train(recipe(alert), run=path).step == 9, "four more steps are fewer than five"
    klimb.train(recipe(), run=tmp_path / "calm")
    one, other = content(path), content(tmp_path / "calm")
    names = [name for name in other if name not in ("config.json", "environment.json")]
    assert [name for name in names if one.get(name) != other[name]] == []


def test_other_alerts_do_not_make_it_another_run(tmp_path: Path) -> None:
    alert = {"type": "metric", "metric": "length/mean", "above": 0.5, "stop": True}
    with pytest.raises(Alerted):
        klimb.train(recipe(alert), run=tmp_path / "run")
    assert klimb.train(recipe(), run=tmp_path / "run").step == 9


def test_an_alert_before_the_first_step_stops_there_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    alert = {"type": "metric", "metric": "eval/accuracy", "above": -1.0, "stop": True}
    path = tmp_path / "run"
    with pytest.raises(Alerted, match="past step 0"):
        klimb.train(recipe(alert), run=path)
    assert not list((path / "rollouts").iterdir()), "nothing was sampled after it"
    assert klimb.train(recipe(), run=path).step == 9
    assert [line["step"] for line in RunDir.open(path).read_metrics()] == list(range(10))
    klimb.train(recipe(), run=tmp_path / "calm")
    one, other = content(path), content(tmp_path / "calm")
    names = [name for name in other if name not in ("config.json", "environment.json")]
    assert [name for name in names if one.get(name) != other[name]] == []
