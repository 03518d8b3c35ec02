"""The page on gamed rewards: every block runs, and every sign is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from klimb.tracking.alerts import AnyAlert
from klimb.tracking.metrics import GLOSSARY
from tests import test_docs
from tests.test_docs import blocks, command

folder = test_docs.folder


def test_every_block_of_the_page_on_gamed_rewards_runs(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, ran = "", set()
    for language, text in blocks(root / "docs/gaming.md"):
        ran.add(language)
        if language == "python":
            exec(compile(text, "gaming.md", "exec"), {"__name__": "page"})
        elif language == "yaml":
            TypeAdapter(tuple[AnyAlert, ...]).validate_python(yaml.safe_load(text)["alerts"])
        else:
            printed += "".join(command(line, capsys) for line in text.splitlines())
    assert ran == {"sh", "yaml", "python"} and "asked about prompts: digit 8" in printed
    report = (folder / "runs/watched/report.html").read_text("utf-8")
    assert "0: not trained on" in report and "hacking/" in report


def test_the_page_names_every_sign(root: Path) -> None:
    page = (root / "docs/gaming.md").read_text("utf-8")
    signs = [metric.name for metric in GLOSSARY if metric.name.startswith("hacking/")]
    assert len(signs) == 3 and [name for name in signs if name.replace("<source>", "NAME") not in page] == []
