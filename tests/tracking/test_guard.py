"""No tracker can stop a run, whatever it does; what it does wrong is told once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from klimb.errors import RunError
from klimb.rundir import RunDir
from klimb.tracking import hub
from klimb.tracking.base import Sink, Tracker
from klimb.tracking.guard import PATIENCE, WAITING, Guard
from klimb.tracking.hub import Tracking

METHODS = ("open", "start", "log", "event", "finish")
ERRORS = (
    ValueError("no"),
    SystemExit(3),
    MemoryError(),
    ImportError("no module named x"),
    RecursionError(),
    OSError(28, "full"),
)


class Recorder:
    """Writes down its calls; raises in some of them."""

    def __init__(self, where: tuple[str, ...] = (), error: BaseException | None = None) -> None:
        self.where, self.error = where, error
        self.calls: list[tuple[str, Any]] = []

    def _do(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, arguments))
        if name in self.where and self.error:
            raise self.error

    def start(self, config: Mapping[str, Any], step: int) -> None:
        self._do("start", config, step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._do("log", step, metrics)

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._do("event", kind, fields)

    def finish(self, report: Mapping[str, Any]) -> None:
        self._do("finish", report)


class Odd(Tracker):
    """Opens the sink that a test has put here."""

    type: Literal["odd"] = "odd"
    sink: ClassVar[Recorder]

    def open(self, run: RunDir) -> Sink:
        self.sink._do("open")
        return self.sink


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", {})


def whole_run(run: RunDir, steps: int = 12) -> list[str]:
    """A run with the odd tracker; the kinds of its events."""
    with Tracking(run, [Odd()], steps, strict=True, log="quiet") as tracking:
        tracking.start({"seed": 1, "api_key": "canary-1"}, 0)
        for step in range(1, steps + 1):
            tracking.log(step, {"loss": 1.0 / step, "reward/mean": float("nan")})
        tracking.event("saved", step=steps)
        tracking.finish({"step": steps})
    return [event["kind"] for event in run.read_events()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", [*((name,) for name in METHODS), METHODS], ids="+".join)
def test_a_tracker_that_raises_never_stops_a_run_and_is_told_of_once(
    run: RunDir, where: tuple[str, ...], error: BaseException
) -> None:
    Odd.sink = Recorder(where, error)
    kinds = whole_run(run)
    assert "saved" in kinds
    assert kinds.count("tracker_failed") == 1
    told = next(event for event in run.read_events() if event["kind"] == "tracker_failed")
    assert (told["tracker"], type(error).__name__ in told["why"]) == ("odd", True)


def test_a_tracker_hears_everything_in_order_and_no_secret(run: RunDir) -> None:
    Odd.sink = Recorder()
    assert whole_run(run, 3) == ["saved"]
    names = [name for name, _ in Odd.sink.calls]
    assert names == ["open", "start", "log", "log", "log", "event", "finish"]
    assert Odd.sink.calls[1] == ("start", ({"seed": 1, "api_key": "[redacted]"}, 0))
    assert Odd.sink.calls[2] == ("log", (1, {"loss": 1.0}))


def test_a_tracker_that_keeps_failing_is_left_alone(run: RunDir) -> None:
    Odd.sink = Recorder(("log",), ValueError("no"))
    kinds = whole_run(run, 20)
    assert [name for name, _ in Odd.sink.calls].count("log") == PATIENCE
    assert kinds.count("tracker_off") == 1


def test_a_start_that_failed_is_tried_again_at_the_next_step(run: RunDir) -> None:
    class Late(Recorder):
        def start(self, config: Mapping[str, Any], step: int) -> None:
            super().start(config, step)
            if len(self.calls) < 4:
                raise ConnectionError("not yet")

    Odd.sink = Late()
    whole_run(run, 6)
    names = [name for name, _ in Odd.sink.calls]
    assert names == ["open", "start", "start", "start", "log", "log", "log", "log", "log", "event", "finish"]


def test_a_tracker_that_hangs_does_not_hold_a_run_up(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PATIENCE_AT_END", 0.2)
    release = threading.Event()

    class Hanging(Recorder):
        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            release.wait(30)

    Odd.sink = Hanging()
    begun = time.monotonic()
    kinds = whole_run(run, 2 * WAITING)
    release.set()
    assert time.monotonic() - begun < 10
    slow = next(event for event in run.read_events() if event["kind"] == "tracker_slow")
    assert WAITING <= slow["lost"] <= 2 * WAITING + 2
    assert "saved" in kinds


def test_a_failure_that_cannot_be_written_down_stops_nothing() -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "no space left")

    def broken() -> Sink:
        raise ValueError("no")

    guard = Guard("odd", broken, full, threaded=False)
    guard.call("log", 1, {})
    guard.close(0.1)
    assert guard.off is False


def test_a_terminal_that_fails_stops_nothing(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Sink:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(hub, "console_sink", broken)
    with Tracking(run, [], 1) as tracking:
        tracking.start({})
        tracking.log(1, {"loss": 1.0})
        tracking.finish({})
    assert run.read_events()[0]["tracker"] == "console"


def test_an_unknown_metric_is_an_error_in_tests_and_one_event_otherwise(run: RunDir) -> None:
    with Tracking(run, strict=True, log="quiet") as tracking, pytest.raises(RunError, match="'los'"):
        tracking.log(1, {"los": 1.0})
    with Tracking(run, log="quiet") as tracking:
        tracking.log(1, {"los": 1.0})
        tracking.log(2, {"los": 1.0})
    assert [(event["kind"], event["names"]) for event in run.read_events()] == [("unknown_metrics", ["los"])]
