"""What each tracker is told, through stand-ins for the packages; TensorBoard is read back for real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from klimb.rundir import RunDir
from klimb.tracking import AnyTracker, MLflow, TensorBoard, Trackio, WandB
from klimb.tracking.base import Tracker
from klimb.tracking.hub import Tracking

CONFIG = {"objective": {"type": "rpg", "betas": [0.9, 0.99]}, "token": "canary-token"}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "demo", {})


def attempt(run: RunDir, tracker: Tracker, first: int, last: int) -> None:
    """The steps after `first` up to `last`, then the end."""
    with Tracking(run, [tracker], 4, strict=True, log="quiet") as tracking:
        tracking.start(CONFIG, first)
        for step in range(first + 1, last + 1):
            tracking.log(step, {"loss": step / 2, "reward/mean": float("inf")})
        tracking.finish({"step": last})
    assert [event for event in run.read_events() if event["kind"].startswith("tracker_f")] == []


class Calls:
    """Stands in for a package or one of its objects: every call is written down, and gives this object back."""

    def __init__(self) -> None:
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **words: Any) -> Calls:
            self.made.append((name, arguments, words))
            return self

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(arguments, words) for called, arguments, words in self.made if called == name]


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    module = ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


def test_wandb_gets_steps_settings_without_secrets_and_the_same_id_when_a_run_goes_on(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    calls.summary = SimpleNamespace(update=lambda values: calls.made.append(("summary", (values,), {})))
    stand_in(monkeypatch, "wandb", init=lambda **words: calls.made.append(("init", (), words)) or calls, Settings=dict)
    attempt(run, WandB(project="p", mode="offline"), 0, 2)
    attempt(run, WandB(project="p", mode="offline"), 2, 4)
    (_, first), (_, second) = calls.of("init")
    assert first["id"] == second["id"]
    assert (first["project"], first["name"], first["mode"], first["resume"]) == ("p", "demo", "offline", "allow")
    assert first["config"]["token"] == "[redacted]"
    assert calls.of("log") == [(({"loss": step / 2},), {"step": step}) for step in (1, 2, 3, 4)]
    assert calls.of("summary")[1] == (({"report/step": 4},), {})


def test_mlflow_gets_metrics_parameters_and_the_same_run_when_a_run_goes_on(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    calls.info, calls.experiment_id = SimpleNamespace(run_id="r1"), "e1"
    stand_in(monkeypatch, "mlflow")
    stand_in(monkeypatch, "mlflow.entities", Param=lambda *a: a, Metric=lambda *a: (a[0], a[1], a[3]))
    stand_in(monkeypatch, "mlflow.tracking", MlflowClient=lambda tracking_uri: calls)
    attempt(run, MLflow(), 0, 1)
    attempt(run, MLflow(), 1, 2)
    assert len(calls.of("create_run")) == 1
    batches = [words for _, words in calls.of("log_batch")]
    assert ("objective.betas.1", "0.99") in batches[0]["params"]
    assert [batch["metrics"] for batch in batches[1:]] == [[("loss", 0.5, 1)], [("loss", 1.0, 2)]]
    assert calls.of("set_terminated") == [(("r1",), {})] * 2


def test_trackio_gets_steps_and_keeps_the_name_of_a_moved_run(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    stand_in(monkeypatch, "trackio", init=lambda **words: calls.made.append(("init", (), words)) or calls)
    attempt(run, Trackio(), 0, 1)
    attempt(RunDir.open(run.path.rename(tmp_path / "moved")), Trackio(), 1, 2)
    assert [words["name"] for _, words in calls.of("init")] == ["demo", "demo"]
    assert calls.of("log") == [(({"loss": step / 2},), {"step": step}) for step in (1, 2)]


def test_tensorboard_files_hold_the_scalars_and_a_run_that_goes_on_replaces_later_ones(run: RunDir) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    attempt(run, TensorBoard(), 0, 3)
    attempt(run, TensorBoard(), 2, 4)
    found = reader.EventAccumulator(str(run.tensorboard))
    found.Reload()
    assert [(scalar.step, scalar.value) for scalar in found.Scalars("loss")] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]


@pytest.mark.parametrize("tracker", [WandB(), MLflow(), Trackio()], ids=lambda tracker: tracker.type)
def test_a_package_that_is_not_installed_is_one_event_with_the_cure(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, tracker: Tracker
) -> None:
    for name in ("wandb", "mlflow", "mlflow.entities", "mlflow.tracking", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
    with Tracking(run, [tracker], 2, log="quiet") as tracking:
        tracking.start({})
        tracking.log(1, {"loss": 1.0})
        tracking.finish({})
    events = run.read_events()
    assert [event["kind"] for event in events] == ["tracker_failed"]
    assert events[0]["cure"] == f"pip install 'klimb[{tracker.type}]'"


def test_a_tracker_is_chosen_by_its_type_and_unknown_ones_are_refused() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(AnyTracker)
    assert adapter.validate_python({"type": "wandb", "project": "x"}) == WandB(project="x")
    with pytest.raises(ValidationError):
        adapter.validate_python({"type": "neptune"})


def test_a_password_in_an_address_is_refused() -> None:
    with pytest.raises(ValidationError, match="MLFLOW_TRACKING_USERNAME"):
        MLflow(uri="https://me:secret@host/")
    assert MLflow(uri="https://host/").uri == "https://host/"


def test_settings_of_trackers_and_evaluation_import_no_torch_and_no_tracker() -> None:
    code = (
        "import sys, klimb.tracking, klimb.evaluation.base, klimb.rundir, klimb.rollouts, klimb.evaluation.accuracy\n"
        "heavy = {'torch', 'wandb', 'mlflow', 'trackio', 'tensorboard', 'matplotlib', 'rich', 'jinja2'}\n"
        "bad = heavy & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
