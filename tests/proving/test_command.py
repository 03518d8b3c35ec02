"""`klimb prove`: the table, its JSON, and what it cannot prove."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from klimb.cli import main
from klimb.cli.proving import _named, label
from klimb.config import dump
from klimb.objectives import RLOO, DrGRPO
from klimb.proving import prove, table
from klimb.proving.catalog import EVERY
from klimb.proving.makeup import Makeup
from klimb.proving.table import chosen


def run(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["prove", *words.split()])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("dr_grpo length=3 --json", capsys)
    rows = json.loads(out)
    assert code == 0
    assert [row["settings"]["length"] for row in rows] == [3, 3, 3]
    assert {"objective", "settings", "target", "stated", "bias", "holds"} <= set(rows[0])
    assert rows == json.loads(json.dumps([asdict(row) for row in prove(DrGRPO(length=3))]))
    assert {"target": "0.2222 reward", "fits": True}.items() <= rows[0]["candidates"][0].items()
    code, out, _ = run("dr_grpo length=3", capsys)
    assert code == 0
    assert out.splitlines()[0].endswith("reward: group mean: (G-1)/G; constant: 1/L; it is 0.2222 reward")
    code, out, _ = run("rloo --off-policy", capsys)
    assert code == 0
    assert out.count("[ ok ] rloo") == 6  # with and without a KL
    assert out.endswith("6 of 6 rows hold\n")


def test_the_command_proves_all_and_fails_where_a_row_does_not_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klimb.proving.catalog.EVERY", (RLOO(),))
    assert run("--all", capsys)[1].endswith("6 of 6 rows hold\n")
    out = run("--all --off-policy", capsys)[1]
    assert out.endswith("3 of 3 rows hold\n")
    assert out.count(" far ") == 3
    monkeypatch.setattr(table, "makeup", lambda _: Makeup("group", "row", "sequence"))
    code, out, _ = run("--all", capsys)
    assert code == 1
    assert "[FAIL] rloo" in out


MISSES = """
def plain(logp, old_logp, ref_logp, advantage):
    gap = ref_logp - logp
    return 0.1 * (gap.exp() - 1 - gap) - (logp - old_logp).exp() * advantage
"""


def test_a_loss_of_no_target_has_every_target_under_its_row_the_nearest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(MISSES, "utf-8")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("mine.py:plain --off-policy", capsys)
    lines = out.splitlines()
    assert code == 1
    assert [line.split("  ")[-1] for line in lines[:3]] == [
        "no target: nothing stated",
        "1.004 reward - 0.1801 forward KL to ref",
        "1.005 reward - 0.1052 Jeffreys KL to ref",
    ]
    assert lines[1].index("bias") == lines[0].index("bias")
    assert [line.startswith("[FAIL]") for line in lines] == [True, *[False] * 8, True, *[False] * 14, False]


BROKEN = """
from klimb.objectives import RLOO
from klimb.objectives.base import terms

class Broken(RLOO):
    def loss(self, now, batch):
        return terms(batch, -now.logp * batch.advantage, {"nonsense": now.logp})
"""


def test_a_law_that_is_broken_has_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(BROKEN, "utf-8")
    code, out, _ = run(f"{tmp_path}/mine.py:Broken", capsys)
    assert code == 1
    laws = [line for line in out.splitlines() if " laws " in line]
    assert [line.split("law: ")[1] for line in laws] == [
        "metrics stand in the glossary and carry no gradient: nothing stated"
    ]
    assert not any("bias" in line or "cosine" in line for line in laws)


def test_every_row_of_all_is_named_by_settings_that_prove_it_alone() -> None:
    names = [label(dump(one)["type"], chosen(one)) for one in EVERY]
    assert len(set(names)) == len(names)
    assert "grpo beta=0.1 kl.estimator=k2 kl.weighted=attached" in names
    assert "topr" in names
    assert "topr good=[0.0,1000000000.0] bad=[0.0,1000000000.0]" in names
    for name, objective in zip(names, EVERY, strict=True):
        kind, *words = name.split(" ")
        assert objective in _named(kind, words)
        assert not words or _named(kind, words) == [objective]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "none, and no --all"),
        ("rloo --all", "a name and --all"),
        ("rlo", "try: rloo"),
        ("zzzzzz", "try: one of cispo"),
        ("dpo", "an objective of given answers"),
        ("hypo", "try: docs/preferences.md"),
        ("sft", "test_preference_formulas.py"),
        ("custom", "try: klimb prove FILE.py:Class"),
        ("grpo betta=1", "objective.beta"),
        ("none.py:f", "no file 'none.py'"),
        ("none.py:f a=1", "settings for a user's file"),
    ],
)
def test_what_the_command_cannot_prove_is_said(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(words, capsys)
    assert code in (1, 2)
    assert says in error
