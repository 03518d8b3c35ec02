"""The study of preferences on the tiny model, in a few steps: it trains what is missing, and draws."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest


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
    assert rows["| initial"][2].startswith("0.500 (") and rows["| initial"][3] == "0.000 (0.000 to 0.000)"
    assert not list(out.glob("arm-*/checkpoints/**/*.safetensors")), "weights of arms are not kept"
    sides = [{json.loads(line)["prompt"] for line in file.open()} for file in sorted(out.glob("*.jsonl"))]
    assert [len(side) for side in sides[:2]] == [24, 64]
    assert not any(one & two for k, one in enumerate(sides) for two in sides[:k])
    again = subprocess.run([*command, "--table"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert again.strip() in first and (tmp_path / "a.svg").stat().st_size > 1000
    other = subprocess.run([*command, "--steps", "7"], cwd=root, capture_output=True, text=True, check=False)
    assert other.returncode != 0 and "has other settings: another --out" in other.stderr
