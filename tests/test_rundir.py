"""The run directory: one owner, whole files, strict lines, a clean way back to a step."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from klimb import atomic
from klimb.atomic import write_atomic
from klimb.errors import RunError
from klimb.records import flatten
from klimb.rundir import RunDir, step_of

HOLD = """
import sys, time
from klimb.rundir import RunDir
with RunDir(sys.argv[1]).own():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", {"seed": 1, "model": {"name": "tiny"}}, {"klimb": "0"})


def holder(run: RunDir) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_created_run_is_opened_with_its_settings(run: RunDir) -> None:
    again = RunDir.open(run.path)
    assert again.config() == {"seed": 1, "model": {"name": "tiny"}}
    assert again.environment() == {"klimb": "0"}
    assert again.rollout(12) == run.path / "rollouts" / "step-000012.parquet"
    assert again.checkpoint(3).name == "step-000003"
    assert step_of(again.evaluation(1_234_567)) == 1_234_567


def test_a_second_run_is_not_created_over_the_first(run: RunDir) -> None:
    with pytest.raises(RunError, match="a run is there"):
        RunDir.create(run.path, {})
    assert run.config()["seed"] == 1


def test_a_run_is_not_created_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"thesis\.tex"):
        RunDir.create(tmp_path, {})


def test_a_creation_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "environment.json").write_text("{}")
    (tmp_path / ".config.json.99.tmp").write_text("{")
    assert RunDir.create(tmp_path, {"seed": 2}).config() == {"seed": 2}


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_broken_settings_are_one_clear_error(run: RunDir, content: bytes) -> None:
    run.config_file.write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json"):
        run.config()


def test_opening_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        RunDir.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no config\.json"):
        RunDir.open(tmp_path)


def test_a_second_process_is_refused_and_told_who_owns_the_run(run: RunDir) -> None:
    process = holder(run)
    try:
        with pytest.raises(RunError, match=rf"process {process.pid} on "), run.own():
            pass
    finally:
        process.kill()
        process.wait()


def test_the_lock_of_a_killed_owner_is_taken_over_and_said(run: RunDir) -> None:
    process = holder(run)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with run.own():
        pass
    assert [event["kind"] for event in run.read_events()] == ["lock_taken_over"]
    assert f"process {process.pid} " in run.read_events()[0]["owner"]
    assert run.lock_file.read_bytes() == b""


def test_a_forked_child_that_outlives_its_parent_does_not_hold_the_lock(run: RunDir) -> None:
    code = (
        "import os, sys, time; from klimb.rundir import RunDir\n"
        "with RunDir(sys.argv[1]).own():\n"
        " child = os.fork()\n"
        " if child == 0: print(os.getpid(), flush=True); time.sleep(60); os._exit(0)\n"  # it has let go of the lock
        " time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(RunError), run.own():
            pass
        process.kill()
        process.wait()
        with run.own():
            assert json.loads(run.lock_file.read_text())["pid"] == os.getpid()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_lock_is_free_after_use_and_moves_with_the_folder(run: RunDir, tmp_path: Path) -> None:
    with run.own():
        pass
    moved = RunDir.open(run.path.rename(tmp_path / "moved"))
    with moved.own(), pytest.raises(RunError), RunDir(moved.path).own():
        pass
    with moved.own():
        pass


def test_metrics_are_sorted_lines_that_read_back(run: RunDir) -> None:
    run.append_metrics({"step": 1, "reward/mean": 0.1, "loss": -2})
    run.append_metrics({"step": 2, "reward/mean": 0.30000000000000004})
    assert run.metrics_file.read_bytes().splitlines()[0] == b'{"loss": -2, "reward/mean": 0.1, "step": 1}'
    assert run.read_metrics()[1] == {"step": 2, "reward/mean": 0.30000000000000004}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_and_named_in_an_event(run: RunDir, value: float) -> None:
    assert run.append_metrics({"step": 4, "loss": value, "reward/mean": 1.0})["loss"] is None
    assert "NaN" not in run.metrics_file.read_text()
    assert "Infinity" not in run.metrics_file.read_text()
    event = run.read_events()[0]
    assert (event["kind"], event["step"], event["names"]) == ("not_finite", 4, ["loss"])


def test_nested_settings_are_flattened_to_dotted_names_and_back_to_nothing_else() -> None:
    assert flatten({"a": {"b": [1, {"c": 2}], "d": []}, "e": None}) == {"a.b.0": 1, "a.b.1.c": 2, "a.d": [], "e": None}


def test_a_record_without_a_step_is_refused(run: RunDir) -> None:
    with pytest.raises(ValueError, match="integer step"):
        run.append_metrics({"loss": 1.0})


def test_a_torn_last_line_is_not_read_and_goes_when_the_run_is_owned(run: RunDir) -> None:
    run.append_metrics({"step": 1})
    with run.metrics_file.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    assert run.read_metrics() == [{"step": 1}]
    with run.own():
        run.append_metrics({"step": 2})
    assert run.read_metrics() == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_line_torn_anywhere_leaves_the_lines_before_it(run: RunDir, cut: int) -> None:
    run.append_metrics({"step": 1})
    run.append_metrics({"step": 2})
    run.metrics_file.write_bytes(run.metrics_file.read_bytes()[:-cut])
    run.truncate_after(5)
    assert run.read_metrics() == [{"step": 1}]
    assert run.metrics_file.read_bytes() == b'{"step": 1}\n'


def test_a_broken_line_before_the_last_is_named(run: RunDir) -> None:
    run.metrics_file.write_bytes(b'{"step": 1}\n\x00\x00\n{"step": 3}\n')
    with pytest.raises(RunError, match="line 2"):
        run.read_metrics()
    with pytest.raises(RunError, match="line 2"):
        run.truncate_after(3)
    run.truncate_after(1)
    assert run.read_metrics() == [{"step": 1}]


def test_going_back_to_a_step_removes_everything_later_and_nothing_else(run: RunDir) -> None:
    for step in range(5):
        run.append_metrics({"step": step})
        run.rollout(step).write_bytes(b"r")
        run.evaluation(step).write_bytes(b"e")
    (run.rollouts / ".step-000003.parquet.7.tmp").write_bytes(b"half")
    before = run.metrics_file.read_bytes()
    run.truncate_after(2)
    assert run.metrics_file.read_bytes() == before[: len(before) * 3 // 5]
    assert sorted(path.name for path in run.rollouts.iterdir()) == [f"step-00000{step}.parquet" for step in range(3)]
    assert sorted(path.name for path in run.evaluations.iterdir()) == [f"step-00000{step}.parquet" for step in range(3)]


def test_going_back_where_nothing_is_later_changes_no_byte(run: RunDir) -> None:
    run.append_metrics({"step": 1, "loss": 0.5})
    before = run.metrics_file.read_bytes(), run.metrics_file.stat().st_mtime_ns
    run.truncate_after(1)
    assert (run.metrics_file.read_bytes(), run.metrics_file.stat().st_mtime_ns) == before


def test_events_carry_time_kind_and_no_secret(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-4711-canary")
    run.event(
        "warning", text="login failed with canary-4711-canary", url="https://me:hunter22@host/x?token=abc", n=math.nan
    )
    event = run.read_events()[0]
    assert event["text"] == "login failed with [redacted]"
    assert event["url"] == "https://[redacted]@host/x?token=[redacted]"
    assert event["n"] is None
    assert event["time"].endswith("+00:00")


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_every_failure_of_a_save_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "no space left")

    if call == "fsync":
        monkeypatch.setattr(atomic.os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace" if call == "replace" else "open", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["state.json"]
