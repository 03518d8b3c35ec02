"""The rollout format: files of every version that there was are read, and what is wrong with one is said."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from klimb import rollouts
from klimb.errors import DataError
from klimb.logs.checking import check
from klimb.rollouts.form import FORMAT
from klimb.types import Completion, Finish, Group, Message, Outcome, Prompt, Rollout, Score, Transform

DONE = Completion((5, 6), (-0.5, -1.25), "4 2", Finish.EOS, (0.5, 0.25))
ROLLOUT = Rollout(DONE, 0, 7, {"exact": Score.of(1.0), "judge": Score(Outcome.TIMED_OUT, None, "20 s")}, None)
PROMPT = Prompt("p0", (Message("user", "2+2?"),), None, "4", {"kind": "sum"}, (1, 2, 3))


def test_a_file_of_version_1_is_read_as_it_was_written(root: Path) -> None:
    first, second = rollouts.read(root / "tests/golden/rollouts-1.parquet")
    wrong = Rollout(Completion((9,), (-2.0,), "9", Finish.LENGTH), 1, 8, {"exact": Score.of(0.0)}, 0.0)
    assert first == Group(PROMPT, (ROLLOUT, wrong), Transform(0.7, 0.9, 40), "0123456789abcdef", "")
    assert (second.prompt.text, second.rollouts[0].reward, second.transform) == ("3+3=", 1.0, Transform())


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.9"])
def test_this_version_and_a_later_minor_one_are_read_alike(root: Path, version: str) -> None:
    first, second = rollouts.read(root / f"tests/golden/rollouts-{version}.parquet")
    unlogged = Rollout(Completion((9,), (), "9", Finish.LENGTH), 1, -1, {"exact": Score.of(0.0)}, 0.0)
    assert first == Group(PROMPT, (ROLLOUT, unlogged), Transform(0.7, 0.9, 40), "0123456789abcdef", "fedcba9876543210")
    assert second.transform == Transform(known=False)
    assert second.rollouts[0].completion == Completion((9,), (-2.0,), "9", Finish.STOP, (), "tiny")
    assert (first.age, second.age) == (None, 2 if version == "2.1" else None)


def test_what_is_written_today_is_the_golden_file(root: Path, tmp_path: Path) -> None:
    golden = root / "tests/golden/rollouts-2.1.parquet"
    rollouts.write(tmp_path / "again", rollouts.read(golden), [3, 0])
    assert rollouts.read_table(tmp_path / "again").equals(rollouts.read_table(golden), check_metadata=True)


@pytest.mark.parametrize("version", [b"3.0", b"", b"two", b"0"])
def test_a_version_that_is_not_known_is_refused(root: Path, tmp_path: Path, version: bytes) -> None:
    table = pq.read_table(root / "tests/golden/rollouts-2.0.parquet").replace_schema_metadata({FORMAT: version})
    pq.write_table(table, tmp_path / "a")
    with pytest.raises(DataError, match="format version 1 to 2"):
        rollouts.read(tmp_path / "a")


@pytest.mark.parametrize("version", ["1", "2.0", "2.1", "2.9"])
def test_the_golden_files_are_sound(root: Path, version: str) -> None:
    found = check(root / f"tests/golden/rollouts-{version}.parquet")
    assert (found.rows, found.groups, found.faults) == (3, 2, [])
    assert (found.missing, found.estimated) == ((0, 0) if version == "1" else (1, 1))


def test_a_long_file_is_read_in_parts_that_make_the_whole(root: Path) -> None:
    path = root / "tests/golden/rollouts-2.0.parquet"
    parts = list(rollouts.tables(path, 2))
    assert [(first, part.num_rows) for first, part in parts] == [(0, 2), (2, 1)]
    assert pa.concat_tables([part for _, part in parts]).equals(rollouts.read_table(path))


BROKEN = [
    ("tokens", 1, [-1], "token ids from 0"),
    ("tokens", 0, [5], "1 numbers, one a token"),
    ("logps", 0, [-0.5, 0.2], "finite numbers of at most 0"),
    ("logps", 0, [-0.5, float("nan")], "finite numbers of at most 0"),
    ("logps", 0, [-0.5, float("-inf")], "finite numbers of at most 0"),
    ("entropies", 0, [0.5, float("inf")], "finite numbers"),
    ("k", 1, 0, "each once, so more than 0"),
    ("temperature", 0, -1.0, "a number from 0"),
    ("temperature", 0, None, "a value, as its siblings have"),
    ("top_p", 1, 1.5, "a number from 1e-12 to 1"),
    ("temperature", 1, 0.8, "0.7' as in the rest of its group"),
    ("step", 0, -3, "a number from 0"),
    ("group", 2, -1, "in order of group"),
    ("finish", 2, "tired", "one of eos, stop, length"),
    ("scores", 1, "{", "JSON"),
    ("metadata", 0, "3", "a JSON dict"),
    ("messages", 1, "[3]", "a list of {role, content}"),
    ("reward", 0, float("inf"), "a finite number or null"),
    ("estimated", 1, "tiny", "the log-probs that 'tiny' estimated"),
    ("estimated", 2, None, "log-probs under a known temperature"),
    ("text", 1, "", "text '' and tokens"),
    ("seed", 1, None, "a value"),
]


@pytest.mark.parametrize(("name", "row", "value", "says"), BROKEN, ids=lambda value: str(value)[:20])
def test_a_fault_is_named_by_row_field_and_cure(
    root: Path, tmp_path: Path, name: str, row: int, value: object, says: str
) -> None:
    table = pq.read_table(root / "tests/golden/rollouts-2.0.parquet")
    rows = table.to_pylist()
    rows[row][name] = value
    if says.startswith("text"):
        rows[row]["tokens"] = []
        says = "a completion as tokens or text"
    loose = pa.schema([field.with_nullable(True) for field in table.schema], table.schema.metadata)
    pq.write_table(pa.Table.from_pylist(rows, loose), tmp_path / "a.parquet")
    lines = [fault.line() for fault in check(tmp_path / "a.parquet").faults]
    named = [line for line in lines if re.search(rf"row {row}, field ", line) and says in line]
    assert named, lines
    assert all("; found: " in line and "; try: " in line for line in lines)


def test_a_null_hides_no_fault_of_another_row_and_all_are_named_where_all_are_wanted(
    root: Path, tmp_path: Path
) -> None:
    table = pq.read_table(root / "tests/golden/rollouts-2.1.parquet")
    rows = table.to_pylist()
    rows[0] |= {"seed": None, "k": None}
    rows[2] |= {"tokens": [-1], "age": -7}
    loose = pa.schema([field.with_nullable(True) for field in table.schema], table.schema.metadata)
    pq.write_table(pa.Table.from_pylist(rows * 10, loose), tmp_path / "a.parquet")
    found = check(tmp_path / "a.parquet", None)
    places = [re.search(r"row (\d+), field '(\w+)'", one.line()) for one in found.faults]
    named = [(int(place[1]), place[2]) for place in places if place]
    assert len(named) == found.count == 49
    assert [one for one in named if one[0] < 3] == [(0, "k"), (0, "seed"), (2, "tokens"), (2, "age")]
    assert [row for row, name in named if name == "group"] == list(range(4, 30, 3))
    few = check(tmp_path / "a.parquet")
    assert (few.count, len(few.faults), few.rows) == (49, 20, 30)
    assert [one.line() for one in few.faults] == [one.line() for one in found.faults[:20]]
