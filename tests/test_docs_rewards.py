"""The page on comparing rewards: every block runs, and says what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests import test_docs
from tests.test_docs import blocks, command

folder = test_docs.folder


def test_every_block_of_the_page_on_comparing_rewards_runs(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ""
    for language, text in blocks(root / "docs/comparing-rewards.md"):
        head, _, rest = text.partition("\n")
        if head.startswith("# file: "):
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
        elif language == "python":
            exec(compile(text, "comparing-rewards.md", "exec"), {"__name__": "page"})
        else:
            shown += "".join(command(line, capsys) for line in text.splitlines())
    assert "4 pairs of 4 prompts" in shown and "above the diagonal" in shown
    found = json.loads((folder / "compared.json").read_text("utf-8"))
    assert [row["name"] for row in found["rows"]] == ["words", "flesch", "repetition", "length"]
    by = {(cell["first"], cell["second"]): cell for cell in found["cells"]}
    assert by["words", "length"]["agreement"] == 0.0, "length is a price"


def test_the_sources_that_were_measured_are_in_the_repository_as_the_page_has_them(root: Path) -> None:
    page = (root / "docs/comparing-rewards.md").read_text("utf-8")
    assert f"# file: readings.py\n{(root / 'bench/readings.py').read_text('utf-8')}```" in page
    sources = yaml.safe_load((root / "bench/sources.yaml").read_text("utf-8"))["rewards"]
    table = page[page.index("| source | PandaLM") :]
    assert [line.split("|")[1].strip() for line in table.splitlines()[2 : 2 + len(sources)]] == [
        one.get("name", one["type"]) for one in sources
    ]


@pytest.mark.slow
def test_the_table_of_seven_sources_is_reproduced_on_llmbar(
    root: Path, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("vaderSentiment", "profanity_check", "harper", "spellchecker"):
        pytest.importorskip(package)
    monkeypatch.chdir(root)
    data, out = shared_data / "llmbar/llmbar_LLMBar_Natural.json", tmp_path / "found.json"
    command(f"klimb rewards compare {data} rows=llmbar --rewards bench/sources.yaml --json {out}", capsys)
    page = (root / "docs/comparing-rewards.md").read_text("utf-8")
    cells = [line.split("|") for line in page[page.index("| source | PandaLM") :].splitlines()[2:9]]
    told = {row[1].strip(): row[4].strip() for row in cells}
    found = json.loads(out.read_text("utf-8"))["rows"]
    assert told == {row["name"]: f"{row['accuracy']:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in found}
