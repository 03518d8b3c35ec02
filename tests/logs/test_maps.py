"""How a log's fields are named: maps of other systems, and one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from klimb.errors import SettingsError
from klimb.logs.importing import import_log
from klimb.logs.maps import NAMED, LogMap, load_map
from klimb.policy.policy import Policy
from tests.logs.test_import import rows_of, sample, taken


def test_a_map_with_a_slip_of_the_pen_is_refused(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    (tmp_path / "m.yaml").write_text("base: trl\nprompt: promt\n")
    with pytest.raises(SettingsError, match="prompt: prompt"):
        import_log(sample(root, "trl"), str(tmp_path / "m.yaml"), tmp_path / "out", tiny)
    (tmp_path / "m.yaml").write_text("base: trl\npromt: x\n")
    with pytest.raises(SettingsError, match="prompt"):
        load_map(str(tmp_path / "m.yaml"))
    with pytest.raises(SettingsError, match="--map trl"):
        load_map("tlr")


def test_every_named_map_is_a_good_map() -> None:
    assert {name: load_map(name)[0].base for name in NAMED} == {name: name for name in NAMED}
    assert LogMap().paths() == {}


def test_a_share_of_a_score_that_is_not_there_is_refused(
    root: Path, tmp_path: Path, tiny: Callable[[str], Policy]
) -> None:
    (tmp_path / "m.yaml").write_text("base: trl\nweights: {corect: 1.0}\n")
    with pytest.raises(SettingsError, match=r"weights\.corect.*weights\.correct"):
        import_log(sample(root, "trl"), str(tmp_path / "m.yaml"), tmp_path / "out", tiny)
    (tmp_path / "m.yaml").write_text("base: trl\nweights: {correct: 2.0}\n")
    found, groups = taken(sample(root, "trl"), str(tmp_path / "m.yaml"), tmp_path / "out", tiny)
    assert (groups[0].rollouts[0].reward, found.shares) == (2.0, {"correct": 2.0})


def test_what_a_kept_column_cannot_hold_is_said(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    (tmp_path / "m.yaml").write_text("base: trl\nrest: null\nscores: {s: correct}\ncolumns: [latency, more]\n")
    row = {**rows_of(root, "trl")[0], "latency": 0.5, "more": {"a": [1, 2]}}
    deep = "[" * 700 + "]" * 700
    lines = [json.dumps(row), json.dumps({**row, "latency": float("nan"), "more": {"a": float("inf"), "b": "\ud83d"}})]
    (tmp_path / "log").write_text("\n".join([*lines, json.dumps({**row, "more": "DEEP"}).replace('"DEEP"', deep)]))
    found, groups = taken(tmp_path / "log", str(tmp_path / "m.yaml"), tmp_path / "out", tiny)
    assert [(n.row, n.field, n.rule, n.found[:3]) for n in found.notes] == [
        (2, "latency", "bad-column", "nan"), (2, "more.a", "bad-column", "inf"), (3, "more", "bad-column", "[[["),
    ]  # fmt: skip
    assert [group.prompt.metadata for group in groups] == [
        {"latency": 0.5, "more": {"a": [1, 2]}},
        {"latency": None, "more": {"a": None, "b": "\ud83d"}},
        {"latency": 0.5, "more": None},
    ]
