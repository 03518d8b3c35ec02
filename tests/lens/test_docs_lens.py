"""The page on the lens: every command of its first block runs, and the run of its picture is a run."""

from __future__ import annotations

import functools
import json
import shlex
import shutil
from pathlib import Path

import pytest

import klimb
from tests.test_docs import blocks, command

STAND_INS = {
    "--step 40 --against-step 80": "--step 5 --against-step 9",
    "smollm2-135m": "tiny",
    "--least 20": "--least 2",
}
"""The run here is shorter than the page's, and its model smaller."""


def test_every_command_of_the_page_on_the_lens_runs(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "other"):
        shutil.copytree(run, tmp_path / "runs" / name)
    Path("answers.jsonl").write_text(json.dumps({"prompt": "2 + 3 =", "completion": " 5"}) + "\n", "utf-8")
    first, second = (text for language, text in blocks(root / "docs/lens.md") if language == "sh")
    lines = [line.partition("#")[0] for line in first.splitlines()]
    assert len(lines) == 6
    for line in lines:
        here = functools.reduce(lambda text, pair: text.replace(*pair), STAND_INS.items(), line)
        page = Path(command(here, capsys).strip().splitlines()[-1])
        assert page.stat().st_size > 10_000, line
    assert json.loads(Path("numbers.json").read_text("utf-8"))["views"][0]["rows"]
    assert len(list(Path("plots").iterdir())) >= 8
    train = shlex.split(second.replace("\\\n", " ").splitlines()[0])
    assert train[:2] == ["klimb", "train"]
    assert klimb.load_recipe(root / train[2], *train[3:]).sampling.max_tokens == 96
