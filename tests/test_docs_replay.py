"""The page on replay: every command runs, every reason for which data are refused is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from klimb.sources.fitness import REASONS
from tests.test_docs import blocks, command, folder

__all__ = ["folder"]


def test_every_block_of_the_page_on_replay_runs(root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, printed = dict[str, str](), list[str]()
    for language, text in blocks(root / "docs/replay.md"):
        if language == "python":
            exec(compile(text, "replay.md", "exec"), {"__name__": "replay"})
            printed += capsys.readouterr().out.splitlines()
        else:
            said |= {line: command(line, capsys) for line in text.splitlines()}
    assert len(said) == 11
    assert printed == ["299 of 640 groups fit, with 598 answers; left out 341: 341 no pair", "0.2 0.0"]
    assert any("replayed, 0 sampled; runs/tiny-log: 640 of 640 groups fit" in text for text in said.values())
    (inspected,) = (text for line, text in said.items() if "inspect" in line)
    assert "answers of the policy to" in inspected and "coverage" in inspected
    assert {"replay", "sft", "half", "mixed", "two", "watched", "pairs", "labels"} < {
        run.name for run in (folder / "runs").iterdir()
    }


def test_the_page_on_replay_names_every_reason(root: Path) -> None:
    page = (root / "docs/replay.md").read_text("utf-8")
    assert [name for name, (what, _) in REASONS.items() if f"| {name} | {what} |" not in page] == []
