"""The page on rewards: it has every source in its own words, its blocks run, and its judge judges."""

from __future__ import annotations

import inspect
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, get_args

import pytest

from klimb import rollouts
from klimb.rewards import AnyReward
from klimb.rewards.packaged import Packaged
from tests import test_docs
from tests.generation.helpers import answer, served
from tests.test_docs import blocks, command

folder = test_docs.folder
SOURCES = get_args(get_args(AnyReward)[0])


def test_the_table_has_every_source_and_the_extra_it_needs(root: Path) -> None:
    lines = (root / "docs/rewards.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    said = [(inspect.getdoc(source) or "").split("\n\n")[0].replace("\n", " ") for source in SOURCES]
    assert [row[:2] for row in rows] == [
        [f"`{source.model_fields['type'].default}`", text] for source, text in zip(SOURCES, said, strict=True)
    ]
    needs = [f"`klimb[{source.extra}]`" if issubclass(source, Packaged) else "" for source in SOURCES]
    gym = [source.__name__ == "Gym" for source in SOURCES].index(True)
    needs[gym] = "`klimb[gym]`"
    assert [row[3].rstrip("|").strip() for row in rows] == needs


def judge(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Gives full marks to digits."""
    reply = json.loads(body["messages"][1]["content"])["reply"]
    verdict = json.dumps({"reason": "", "grade": 10 if reply.isdigit() else 0})
    message = {"message": {"role": "assistant", "content": verdict}, "finish_reason": "stop"}
    answer(handler, {"choices": [message], "usage": {"total_tokens": 9}})


def test_every_block_of_the_page_on_rewards_runs(root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(judge) as url:
        for language, text in blocks(root / "docs/rewards.md"):
            head, _, rest = text.partition("\n")
            if head.startswith("# file: "):
                rest = rest.replace("http://127.0.0.1:8000/v1", url)
                (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
            elif language == "python":
                exec(compile(text, "rewards.md", "exec"), {"__name__": "page"})
            else:
                assert language == "sh"
                for line in text.splitlines():
                    command(line, capsys)
    groups = rollouts.read(folder / "runs/judged/rollouts/step-000002.parquet")
    drawn = [one for group in groups for one in group.rollouts]
    assert [one.scores["judge"].value for one in drawn] == [float(one.completion.text.isdigit()) for one in drawn]
    events = [json.loads(line) for line in (folder / "runs/judged/events.jsonl").read_text("utf-8").splitlines()]
    (cost,) = [event for event in events if event["kind"] == "reward_cost" and event.get("source") == "judge"]
    assert cost["judge_calls"] > 0 and cost["judge_tokens"] == 9 * cost["judge_calls"], cost
