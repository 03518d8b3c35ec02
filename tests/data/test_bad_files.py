"""Every bad data file ends in one clear message: row, field, cure; never another kind of error."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from klimb.data.hub import Hub
from klimb.data.jsonl import Jsonl
from klimb.data.parquet import Parquet
from klimb.errors import DataError
from tests.data.corpus import GOOD, ROWS, WHOLE, Bad


@pytest.mark.parametrize("bad", [*WHOLE, *ROWS], ids=lambda bad: bad.name)
def test_a_bad_file_is_refused_by_row_and_field_with_a_cure(bad: Bad, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(bad.content)
    with pytest.raises(DataError) as caught:
        Jsonl(path=path, **bad.settings).open()
    message = str(caught.value)
    assert [word for word in bad.words if word not in message] == [], message
    assert "try: " in message
    assert len(message) < 2000
    assert message.isprintable() or all(part.isprintable() for part in message.split("\n")), "safe for a terminal"


def test_a_good_file_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD)
    assert len(Jsonl(path=path).open().train) == 1


@pytest.mark.parametrize(("path", "words"), [("nothing.jsonl", "no such file"), (".", "directory"), ("a\0b", "null")])
def test_a_path_that_is_no_file_is_named(path: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        Jsonl(path=tmp_path / path).open()


def test_many_faults_are_counted_and_ten_of_them_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": ""}\n' * 40)
    with pytest.raises(DataError) as caught:
        Jsonl(path=path).open()
    message = str(caught.value)
    assert "80 faults" in message
    assert message.count("jsonl, row ") == 10
    assert "and 70 more" in message


def test_faults_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(GOOD + b"1\n")
    (tmp_path / "test.jsonl").write_bytes(b'{"prompt": "a"}\n')
    with pytest.raises(DataError) as caught:
        Jsonl(path=tmp_path / "train.jsonl", held_out=tmp_path / "test.jsonl").open()
    assert "train.jsonl, row 3" in str(caught.value)
    assert "test.jsonl, row 1" in str(caught.value)


def table(path: Path, **columns: pa.Array) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def invalid_text() -> pa.Array:
    offsets = pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0")
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff\xfe")])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"prompt": pa.array(["a", "b"])}, ("column 'answer'", "no such column", "prompt")),
        ({"prompts": pa.array(["a", "b"]), "answer": pa.array(["1", "2"])}, ("column 'prompt'", "'prompts'?")),
        ({"prompt": pa.array(["a", None]), "answer": pa.array(["1", "2"])}, ("row 2, field 'prompt'", "null")),
        ({"prompt": pa.array(["a", "b"]), "answer": pa.array([1.0, float("nan")])}, ("row 2, field 'answer'", "nan")),
        ({"prompt": pa.array([1, 2]), "answer": pa.array(["1", "2"])}, ("row 1, field 'prompt'", "the number 1")),
        ({"prompt": pa.array(["a", "b"]), "answer": pa.array([b"1", b"2"])}, ("row 1, field 'answer'", "a bytes")),
        ({"prompt": pa.array([], pa.string()), "answer": pa.array([], pa.string())}, ("none",)),
        ({"prompt": invalid_text(), "answer": pa.array(["1", "2"])}, ("row 2", "utf-8")),
    ],
    ids=["lost", "misspelt", "null", "nan", "number", "bytes", "empty", "not UTF-8"],
)
def test_a_bad_parquet_file_is_refused_by_row_and_column(columns: dict, words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Parquet(path=table(tmp_path / "d.parquet", **columns)).open()
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", json.dumps([1]).encode()])
def test_what_is_no_parquet_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"rows of the Parquet file .*d\.parquet.*whole Parquet file"):
        Parquet(path=tmp_path / "d.parquet").open()


def test_a_parquet_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Parquet(path=tmp_path / "d.parquet").open()


def test_a_hub_set_without_the_datasets_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match=r"klimb\[datasets\]"):
        Hub(repository="openai/gsm8k").open()
