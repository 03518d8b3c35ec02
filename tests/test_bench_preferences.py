"""The study of preferences on the tiny model, in a few steps: it trains what is missing, and draws."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from klimb.types import Completion, Finish, Group, Message, Prompt, Rollout, Score


@pytest.fixture
def study(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The study as a module."""
    monkeypatch.syspath_prepend(root / "bench")
    return importlib.import_module("preference_study")


def group(name: str, question: str, gap: float, kl: float) -> Group:
    """A held-out sample of a dialogue of three turns, with what was noted of it."""
    turns = (Message("user", question), Message("assistant", name), Message("user", "and?"))
    scores = {"eval/implicit_gap": Score.of(gap), "eval/kl": Score.of(kl)}
    return Group(Prompt(name, turns), (Rollout(Completion((1,), (), "", Finish.EOS), 0, 0, scores),))


def test_rows_that_begin_alike_are_one_prompt_and_a_tie_is_a_half(study: Any) -> None:
    groups = [group("a", "one", 2.0, 1.0), group("b", "one", -2.0, 3.0), group("c", "two", 0.0, 5.0)]
    found = study.measured(groups, {"a": 0.25, "c": -1.0})
    assert list(found) == ["implicit accuracy", "reverse KL", "judge's score"]
    assert found["implicit accuracy"] == {"one": 0.5, "two": 0.5} and found["reverse KL"] == {"one": 2.0, "two": 5.0}
    assert found["judge's score"] == {"one": 0.25, "two": -1.0}, "what the judge could not score is in no mean"


def test_seeds_that_are_asked_the_same_prompts_do_not_make_the_interval_narrower(study: Any) -> None:
    prompts = {f"p{n}": float(n % 2) for n in range(64)}
    one, four = study.over_prompts([prompts]), study.over_prompts([prompts] * 4)
    assert one == four and 0.2 < one[2] - one[1] < 0.3


def test_an_arm_is_compared_with_the_first_one_prompt_by_prompt(study: Any) -> None:
    def point(shift: float) -> Any:
        values = {f"p{n}": n / 10 + shift for n in range(8)}
        line = {"eval/length": 3.0, "eval/truncated": 0.5}
        return study.Point(line, dict.fromkeys(study.MEASURES, values), 7.0)

    rows = study.table({"initial": [point(0.0)], "dpo": [point(0.0)], "hypo": [point(0.1), point(0.3)]}, "dpo")
    head, _, _, control, other = (row.split(" | ") for row in rows.splitlines())
    assert head[2:5] == ["implicit accuracy", "less `dpo`", "reverse KL"] and control[3] == ""
    assert other[2].startswith("0.550 (") and other[3] == "+0.200 (+0.200 to +0.200)"


def test_a_dialogue_is_on_one_side_of_the_study_and_another_split_wants_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.syspath_prepend(str(root / "bench"))
    split = importlib.import_module("preference_runs").split
    starts = [f"\n\nHuman: {n}\n\nAssistant:" for n in range(9)]
    starts += [f"{start} on\n\nHuman: and\n\nAssistant:" for start in starts]
    lines = [json.dumps({"chosen": start + " a", "rejected": start + " b"}) for start in starts]
    (tmp_path / "hh.jsonl").write_text("\n".join(lines), "utf-8")
    study = {"recipe": "dpo-hh", "words": [f"data.path={tmp_path}/hh.jsonl"], "split": {"judge": 3, "held_out": 2}}
    files = split(study, tmp_path)
    first = {side: {json.loads(line)["prompt"][0]["content"] for line in file.open()} for side, file in files.items()}
    assert {side: len(some) for side, some in first.items()} == {"judge": 3, "train": 4, "held_out": 2}
    assert len(set.union(*first.values())) == 9 and split(study, tmp_path) == files
    with pytest.raises(SystemExit, match="another split: another --out"):
        split({**study, "split": {"judge": 3, "held_out": 3}}, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_study_of_preferences_runs_goes_on_and_prints_its_table(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable, "bench/preference_study.py", "bench/preference-tiny.yaml", "--seeds", "2", "--steps", "4",
        "--judge-steps", "20", "--arms", "hypo-0.2", "--out", str(out), "--threads", "1",
        "--plot", f"{tmp_path}/a.svg",
    ]  # fmt: skip
    first = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in ("judge-model-0", "arm-initial-0", "arm-hypo-0.2-1"):
        assert f"{name}: done" in first
    rows = {line.split(" | ")[0]: line.split(" | ") for line in first.splitlines() if line.startswith("| ")}
    assert set(rows) == {"| arm", "| ---", "| initial", "| hypo-0.2"}
    assert rows["| initial"][2] == "0.500 (0.500 to 0.500)" and rows["| initial"][4] == "0.000 (0.000 to 0.000)"
    assert rows["| initial"][5].startswith("-") and not rows["| hypo-0.2"][5], "the first arm is the control"
    assert not list(out.glob("arm-*/checkpoints/**/*.safetensors")), "weights of arms are not kept"
    sides = [{json.loads(line)["prompt"] for line in file.open()} for file in sorted(out.glob("*.jsonl"))]
    assert [len(side) for side in sides[:2]] == [24, 64]
    assert not any(one & two for k, one in enumerate(sides) for two in sides[:k])
    again = subprocess.run([*command, "--table"], cwd=root, capture_output=True, text=True, check=True).stdout
    shown, _, spent = again.strip().rpartition("\n")
    assert shown in first and spent.startswith("0.0 CPU minutes") and (tmp_path / "a.svg").stat().st_size > 1000
    other = subprocess.run([*command, "--steps", "7"], cwd=root, capture_output=True, text=True, check=False)
    assert other.returncode != 0 and "has other settings: another --out" in other.stderr
