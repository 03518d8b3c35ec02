"""How commands fail: one line, an exit code, no traceback unless asked for."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from klimb.cli import main
from klimb.cli.failures import guarded
from klimb.errors import DataError, Interrupted, KlimbError, SettingsError


def raising(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            DataError("row 3 must have an answer", "none", "give it one"),
            3,
            "klimb: row 3 must have an answer; found: none; try: give it one\n",
        ),
        (
            Interrupted(15, "runs/a"),
            143,
            "klimb: stopped by signal 15; found: saved in runs/a; try: run the same command again to go on\n",
        ),
        (KeyboardInterrupt(), 130, "klimb: stopped by Ctrl-C\n"),
        (SettingsError([KlimbError("a", "b", "c")]), 2, "klimb: a; found: b; try: c\n"),
        (SettingsError([KlimbError("a"), KlimbError("b")]), 2, "klimb: 2 faults\n  - a\n  - b\n"),
        (KlimbError("a \x1b[31mred\x1b[0m \x07 name"), 1, "klimb: a red  name\n"),
    ],
)
def test_what_a_person_can_act_on_is_one_line_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(raising(error), []) == code
    assert capsys.readouterr().err == said


def test_an_unexpected_fault_says_where_its_traceback_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("KLIMB_DEBUG", raising=False)
    assert guarded(raising(ZeroDivisionError("two\nlines")), []) == 70
    said = capsys.readouterr().err
    assert said.startswith("klimb: a fault of klimb itself: ZeroDivisionError: two lines; its traceback is in ")
    assert said.count("\n") == 1
    (written,) = tmp_path.iterdir()
    assert str(written) in said
    assert "raise error" in written.read_text()


def test_the_traceback_file_holds_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("SOME_API_KEY", "opensesame123")
    guarded(raising(RuntimeError("refused opensesame123")), [])
    (written,) = tmp_path.iterdir()
    assert "opensesame123" not in written.read_text()
    assert "opensesame123" not in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLIMB_DEBUG", "1")
    assert guarded(raising(DataError("x")), []) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["trian"], "'train'"),
        (["train"], "missing argument 'RECIPE'; try: klimb train --help"),
        (["train", "x", "--sampling.top_p=1"], "sampling.top_p=1 without dashes"),
        (["sample", "tiny", "hi", "--temperature", "-1"], "temperature"),
        (["sample", "tiny", "hi", "--temperature", "hot"], "valid number"),
        (["pull", "smollm2"], "smollm2-135m"),
        (["evaluate", "tiny"], "--recipe RECIPE"),
        (["evaluate", "tiny", "--step", "3"], "tiny is not a run directory"),
        (["report", "no-such-folder"], "no such folder"),
        (["explain", "optimizer.lrr"], "optimizer.lr"),
        (["explain", "sampling.max_tokns"], "sampling.max_tokens"),
        (["sample", "tiny", "   "], "there must be a question"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_a_cure(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    said = capsys.readouterr().err
    assert stop.value.code not in (0, None, 70)
    assert part in said
    assert said.startswith("klimb: ")
    assert said.count("\n") == 1
    assert "try: " in said or "Did you mean" in said


REPLACED = """
import os, signal
from klimb.cli import explaining, main
explaining.explain = lambda name: {body}
main(["explain"])
"""


def test_a_reader_that_goes_away_is_no_fault() -> None:
    script = REPLACED.format(body="'x\\n' * 10**6")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(30) == 141
    assert said == b""


def test_ctrl_c_ends_a_command_with_its_own_code() -> None:
    script = REPLACED.format(body="os.kill(os.getpid(), signal.SIGINT)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "klimb: stopped by Ctrl-C\n")
