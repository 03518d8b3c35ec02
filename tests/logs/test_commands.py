"""`klimb logs` as a person meets it: what is said, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from klimb.cli import main


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_broken_file_is_exit_code_3_with_each_fault_on_a_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(root / "tests/golden/rollouts-2.0.parquet")
    rows = table.to_pylist()
    rows[1]["tokens"] = [-4]
    pq.write_table(type(table).from_pylist(rows, table.schema), tmp_path / "a.parquet")
    assert run("logs", "check", str(tmp_path / "a.parquet")) == 3
    out = capsys.readouterr().out.splitlines()
    assert "row 1, field 'tokens'" in out[0]
    assert out[-1].endswith("1 faults")
    assert run("logs", "check", "--json", str(tmp_path / "a.parquet")) == 3
    assert json.loads(capsys.readouterr().out)["faults"] == 1
    for row in rows:
        row["step"] = -1
    pq.write_table(type(table).from_pylist(rows * 10, table.schema), tmp_path / "many.parquet")
    for words, count in (((), 20), (("--all",), 49)):
        assert run("logs", "check", "--json", *words, str(tmp_path / "many.parquet")) == 3
        said = json.loads(capsys.readouterr().out)
        assert (said["faults"], len(said["shown"])) == (49, count)
    assert run("logs", "check", str(root / "tests/golden/rollouts-1.parquet")) == 0


def test_an_import_without_usable_rows_lists_them_and_writes_no_rollouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").write_text('{"messages": []}\n')
    words = ["logs", "import", str(tmp_path / "log"), "--map", "chat", "--out", str(tmp_path / "o.parquet")]
    assert run(*words) == 3
    assert "bad-turns (1)" in capsys.readouterr().err
    assert not (tmp_path / "o.parquet").exists()
    assert json.loads((tmp_path / "o.rows.jsonl").read_text())["rule"] == "bad-turns"
    assert run(*words[:-1], str(tmp_path / "none/o.parquet")) == 3
    assert "mkdir -p" in capsys.readouterr().err


def test_an_inspection_of_nothing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "inspect", str(tmp_path)) == 3
    assert "no .parquet file" in capsys.readouterr().err
    assert run("data", "inspect", str(tmp_path / "x.parquet"), "--policy", "tiny") == 3
    assert "no such file" in capsys.readouterr().err


def test_a_policy_is_asked_about_so_many_rows_drawn_by_a_seed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(tmp_path / "a.parquet")
    words = ["--map", "openai", "--out", log, "--tokenizer", "tiny"]
    assert run("logs", "import", str(root / "tests/data/logs/openai.jsonl"), *words) == 0
    for seed in ("0", "1"):
        assert run("data", "inspect", log, "--policy", "tiny", "--most", "3", "--seed", seed) == 0
    asked = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("policy", "KL"))]
    assert asked[0].startswith("policy       asked about 3 rows") and asked[0] == asked[2]
    assert asked[1] != asked[3]
