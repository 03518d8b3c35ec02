"""Rollouts on disk: what is written comes back, the same bytes each time; broken files are named by row and field."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klimb import rollouts
from klimb.errors import DataError
from klimb.types import Completion, Finish, Group, Message, Outcome, Prompt, Rollout, Score, Transform

float32 = st.floats(width=32, allow_nan=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
scores = st.builds(Score.of, st.floats(allow_nan=False, allow_infinity=False), text) | st.builds(
    Score, st.sampled_from([Outcome.TIMED_OUT, Outcome.UNSCORABLE, Outcome.REJECTED]), st.none(), text
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    tokens = draw(ids)
    per_token = st.lists(float32, min_size=len(tokens), max_size=len(tokens)).map(tuple)
    entropies = draw(st.just(()) | per_token)
    return Completion(tokens, draw(per_token), draw(text), draw(st.sampled_from(list(Finish))), entropies)


drawn = st.builds(
    Rollout,
    completions(),
    st.integers(0, 9),
    st.integers(0, 2**63 - 1),
    st.dictionaries(text, scores, max_size=2),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
prompts = st.builds(
    Prompt,
    text,
    st.lists(st.builds(Message, text, text), max_size=2).map(tuple),
    st.none() | text,
    st.none() | text,
    st.dictionaries(text, json_values, max_size=2),
    ids,
)
transforms = st.builds(Transform, st.floats(0, 10), st.floats(0.01, 1), st.integers(0, 100))
groups = st.builds(Group, prompts, st.lists(drawn, min_size=1, max_size=3).map(tuple), transforms, text)


def some(count: int = 2) -> list[Group]:
    done = Completion((5, 6), (-0.5, -1.25), "4 2", Finish.EOS, (0.5, 0.25))
    rollout = Rollout(done, 0, 7, {"exact": Score.of(1.0), "judge": Score(Outcome.TIMED_OUT, None, "20 s")}, None)
    prompt = Prompt("p0", (Message("user", "2+2?"),), None, "4", {"kind": "sum"}, (1, 2, 3))
    other = replace(rollout, k=1, seed=8, reward=-0.0)
    return [Group(replace(prompt, id=f"p{i}"), (rollout, other), Transform(0.7, 0.9, 40), "hash") for i in range(count)]


@given(st.lists(groups, max_size=3))
@settings(max_examples=60, deadline=None)
def test_everything_that_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, made: list[Group]) -> None:
    path = tmp_path_factory.mktemp("r") / "step-000001.parquet"
    rollouts.write(path, made, 1)
    back = rollouts.read(path)
    assert back == made
    assert [list(r.scores) for g in back for r in g.rollouts] == [list(r.scores) for g in made for r in g.rollouts]


def test_log_probs_come_back_to_the_bit(tmp_path: Path) -> None:
    values = tuple(struct.unpack("<4f", struct.pack("<4f", -0.1, -0.0, 1e-45, -3.4e38)))
    group = some(1)[0]
    done = Completion((1, 2, 3, 4), values, "x", Finish.LENGTH)
    rollouts.write(tmp_path / "a", [replace(group, rollouts=(Rollout(done, 0, 1),))], 3)
    back = rollouts.read(tmp_path / "a")[0].rollouts[0].completion.logps
    assert struct.pack("<4d", *back) == struct.pack("<4d", *values)


def test_two_groups_of_one_prompt_stay_two(tmp_path: Path) -> None:
    twice = [some(1)[0], some(1)[0]]
    rollouts.write(tmp_path / "a", twice, 1)
    assert rollouts.read(tmp_path / "a") == twice


def test_the_same_rollouts_are_the_same_bytes(tmp_path: Path) -> None:
    rollouts.write(tmp_path / "a", some(), 1)
    rollouts.write(tmp_path / "b", some(), 1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    rollouts.write(tmp_path / "b", some(), 2)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_metadata_that_json_cannot_hold_is_kept_as_text_in_a_fixed_order(tmp_path: Path) -> None:
    group = some(1)[0]
    odd = replace(group.prompt, metadata={"set": {"b", "a"}, "path": Path("x/y"), "nan": float("nan"), "t": (1, 2)})
    rollouts.write(tmp_path / "a", [replace(group, prompt=odd)], 1)
    back = rollouts.read(tmp_path / "a")[0].prompt.metadata
    assert back == {"set": ["a", "b"], "path": "x/y", "nan": None, "t": [1, 2]}


def test_no_rollouts_at_all_is_a_file_without_rows(tmp_path: Path) -> None:
    rollouts.write(tmp_path / "a", [], 1)
    assert rollouts.read(tmp_path / "a") == []


def test_a_text_that_is_no_unicode_is_refused_by_row_and_field(tmp_path: Path) -> None:
    group = some(1)[0]
    bad = replace(group.rollouts[1].completion, text="\ud83d")
    odd = replace(group, rollouts=(group.rollouts[0], replace(group.rollouts[1], completion=bad)))
    with pytest.raises(DataError, match=r"row 1, field 'text'"):
        rollouts.write(tmp_path / "a", [odd], 1)
    assert not (tmp_path / "a").exists()


def test_a_group_without_rollouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'p0'"):
        rollouts.write(tmp_path / "a", [replace(some(1)[0], rollouts=())], 1)


def spoil(path: Path, column: str, row: int, value: object) -> None:
    rollouts.write(path, some(), 1)
    table = pq.read_table(path)
    index = table.schema.names.index(column)
    values = table.column(column).to_pylist()
    values[row] = value
    field = table.schema.field(column).with_nullable(True)
    pq.write_table(table.set_column(index, field, pa.array(values, field.type)), path)


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [
        ("tokens", 2, None),
        ("logps", 1, [-1.0]),
        ("entropies", 3, [0.1, 0.2, 0.3]),
        ("finish", 1, "tired"),
        ("scores", 1, "{"),
        ("scores", 1, "[]"),
        ("scores", 2, '{"exact": {"outcome": "scored", "value": null, "reason": ""}}'),
        ("scores", 2, '{"exact": 1.0}'),
        ("scores", 0, '{"exact": {"outcome": "sunny", "value": 1.0, "reason": ""}}'),
        ("metadata", 0, "3"),
        ("messages", 2, '[{"role": "user"}]'),
        ("prompt_id", 1, "someone else"),
        ("reward", 1, float("nan")),
    ],
)
def test_a_broken_row_is_named_with_its_field(tmp_path: Path, column: str, row: int, value: object) -> None:
    spoil(tmp_path / "a.parquet", column, row, value)
    with pytest.raises(DataError, match=rf"a\.parquet, row {row}, field '{column}'"):
        rollouts.read(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + b"\xff" * 64 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match="not a Parquet file"):
        rollouts.read(tmp_path / "a")


def test_every_truncation_of_a_file_is_refused(tmp_path: Path) -> None:
    rollouts.write(tmp_path / "a", some(), 1)
    whole = (tmp_path / "a").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "b").write_bytes(whole[:size])
        with pytest.raises(DataError):
            rollouts.read(tmp_path / "b")


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a")
    with pytest.raises(DataError, match="format version 1 to 2"):
        rollouts.read(tmp_path / "a")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rollouts.write(tmp_path / "a", some(), 1)
    pq.write_table(pq.read_table(tmp_path / "a").drop_columns(["seed"]), tmp_path / "a")
    with pytest.raises(DataError, match="'seed'"):
        rollouts.read(tmp_path / "a")
