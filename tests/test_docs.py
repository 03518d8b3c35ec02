"""The guide and the README: every block is run, and does what it says."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from klimb.cli import main

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

PAGE = re.compile(r"docs/[\w/-]+\.md")


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    return BLOCK.findall(page.read_text("utf-8"))


def command(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs one `klimb ...` line in this process; returns what it printed."""
    words = shlex.split(line, comments=True)
    assert words[0] == "klimb", line
    code: object = 0
    try:
        code = main(words[1:])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert not code, f"{line}\n{printed.out}{printed.err}"
    return printed.out


@pytest.fixture
def folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(root / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    torch.set_num_threads(1)
    return tmp_path


def test_every_block_of_the_guide_runs_in_order(root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = {"sh": 0, "python": 0, "file": 0}
    for language, text in blocks(root / "docs/guide.md"):
        head, _, rest = text.partition("\n")
        if head.startswith("# file: "):
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
            ran["file"] += 1
        elif language == "python":
            exec(compile(text, "guide.md", "exec"), {"__name__": "guide"})
            ran["python"] += 1
        else:
            for line in text.splitlines():
                command(line, capsys)
                ran["sh"] += 1
    assert ran == {"sh": 14, "python": 2, "file": 4}
    assert {"first", "fork", "sums", "pull", "python", "again"} == {run.name for run in (folder / "runs").iterdir()}
    assert all((run / "report.html").stat().st_size > 10_000 for run in (folder / "runs").iterdir())


def test_pages_that_are_named_exist_and_the_index_names_each_once(root: Path) -> None:
    named = {(file, page) for file in root.glob("recipes/*.yaml") for page in PAGE.findall(file.read_text("utf-8"))}
    assert named and [f"{file.name}: {page}" for file, page in sorted(named) if not (root / page).is_file()] == []
    lines = (root / "docs/index.md").read_text("utf-8").splitlines()
    links = [line for line in lines if line.startswith("- [")]
    assert len(links) == len(set(links)) > 10


def test_the_python_of_the_readme_runs(root: Path, folder: Path) -> None:
    (text,) = [text for language, text in blocks(root / "README.md") if language == "python"]
    exec(compile(text, "README.md", "exec"), {"__name__": "readme"})
    assert (folder / "runs/readme/report.html").is_file()


def test_the_commands_of_the_readme_are_commands(root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for language, text in blocks(root / "README.md") if language == "sh" for line in text.splitlines()]
    known = {"train", "evaluate", "sample", "explain", "doctor", "lens", "logs", "prove"}
    assert {shlex.split(line, comments=True)[1] for line in lines if line.startswith("klimb")} == known
    shown = 0
    for line in lines:
        if line.startswith("klimb train") and "--fork" not in line:
            shown += "micro" in command(
                f"{line.partition('#')[0]} --dry-run".replace("--dry-run --dry-run", "--dry-run"), capsys
            )
        elif line.startswith("klimb explain"):
            assert "0.2" in command(line, capsys)
    assert shown == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_tiny"])
def test_every_example_runs(name: str, root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.stem for path in (root / "examples").glob("*.py")} == {"train_tiny"}
    runpy.run_path(str(root / f"examples/{name}.py"))["main"](str(folder / "run"))
    assert "accuracy 0.0" in capsys.readouterr().out
    assert (folder / "run/report.html").is_file()


def test_every_block_of_the_page_on_proving_runs_in_order(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = ""
    for language, text in blocks(root / "docs/proving.md"):
        head, _, rest = text.partition("\n")
        if head.startswith("# file: "):
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
        elif language == "python":
            exec(compile(text, "proving.md", "exec"), {"__name__": "proving"})
            assert capsys.readouterr().out == "reward - 0.1 reverse KL to ref\n"
        else:
            printed += "".join(command(line, capsys) for line in text.splitlines())
    assert "reward - 0.1 forward KL to ref: nothing stated" in printed
    assert printed.count("[ ok ] rloo") == 6  # with and without a KL
    with pytest.raises(AssertionError, match="no target"):
        command("klimb prove mine.py:with_k3 --off-policy", capsys)


def test_every_block_of_the_page_on_logs_runs(root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for language, text in blocks(root / "docs/logs.md"):
        head, _, rest = text.partition("\n")
        if language == "sh":
            said += [command(line, capsys) for line in text.splitlines()]
        elif language == "python":
            exec(compile(text, "logs.md", "exec"), {"__name__": "logs"})
            assert capsys.readouterr().out == "0.790 (0.565 to 1.015)\n0.740 (0.269 to 1.212)\n"
        else:
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
    assert len(said) == 3
    assert "refused 1 by no-completion" in said[0]
    assert "2 estimated" in said[0]
    assert "\nreward: helpful\n" in said[0]
    assert "0.0 % of tokens below -10" in said[0]
    assert "sound" in said[1]
    assert "effective    2.0 of 2 rows" in said[2]
    assert "for importance-weighted objectives" in (folder / "log.html").read_text("utf-8")
    listed = (folder / "log.rows.jsonl").read_text("utf-8")
    assert '"row": 3' in listed


def test_the_page_on_logs_names_every_column_rule_and_setting(root: Path) -> None:
    from klimb.logs.maps import LogMap
    from klimb.logs.rules import RULES
    from klimb.rollouts import COLUMNS

    page = (root / "docs/logs.md").read_text("utf-8")
    named = {*(name for name, _, _ in COLUMNS), *RULES, *LogMap.model_fields}
    assert [name for name in named if f"| `{name}` |" not in page] == []
    assert [rule for name, rule in RULES.items() if f"| `{name}` | {rule.action} | {rule.says} |" not in page] == []
