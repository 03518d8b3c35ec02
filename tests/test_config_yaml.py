"""YAML as recipes use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klimb.errors import SettingsError
from klimb.nearest import nearest
from klimb.yamltext import parse, read_marked, read_recipe, scalar, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("1_000", 1000),
        ("0777", 777),
        ("0x1F", 31),
        ("0o17", 15),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("1.2.3", "1.2.3"),
        ("inf", "inf"),
        ("nan", "nan"),
        ("1e", "1e"),
        ("+", "+"),
        ("=", "="),
        ("a: b", "a: b"),
        ("# no comment", "# no comment"),
        ("*home", "*home"),
        ("'12'", "12"),
        ('"a\\n"', "a\n"),
        ("[1, a, null]", [1, "a", None]),
        ("{a: 1e-3}", {"a": 1e-3}),
    ],
)
def test_a_word_is_read_as_yaml_1_2_reads_a_scalar(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_a_file_reads_scalars_as_words_do(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufefflr: 1e-5\nflag: no\nkey: 12:30\non: [yes, 0777]\ntext: |\n  a\n  b\n", "utf-8")
    assert read_recipe(path) == {"lr": 1e-5, "flag": "no", "key": "12:30", "on": ["yes", 777], "text": "a\nb\n"}


def test_every_value_knows_its_line() -> None:
    _, lines = parse("a: 1\nb:\n  c: 2\n  d:\n    - {e: 3}\n    - {e: 4}\n")
    assert lines == {"a": 1, "b": 2, "b.c": 3, "b.d": 4, "b.d.0": 5, "b.d.0.e": 5, "b.d.1": 6, "b.d.1.e": 6}


def test_every_repeated_key_is_told_with_both_lines() -> None:
    with pytest.raises(SettingsError) as caught:
        parse("a: 1\nb: {c: 1, c: 2}\na: 2\n", "x.yaml")
    told = [fault.line() for fault in caught.value.faults]
    assert told == [
        "x.yaml:2:11: b.c stands twice; found: already on line 2; try: keep one of them",
        "x.yaml:3:1: a stands twice; found: already on line 1; try: keep one of them",
    ]


def test_an_alias_stands_for_its_value() -> None:
    data, _ = parse("a: &x {b: 1}\nc: *x\n")
    assert data == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "where", "cure"),
    [
        ("a: 1\n\tb: 2\n", "x.yaml:2:1", "tabs"),
        ("a: [1, 2\n", "x.yaml:2:1", "bracket"),
        ("a: 'b\n", "x.yaml:2:1", "close the quote"),
        ("a: 1\n b: 2\n", "x.yaml:2:3", "indented"),
        ("a: @b\n", "x.yaml:1:4", "in quotes"),
        ("a: 1\nb\n", "x.yaml:3:1", "name: value"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2:1", "`---`"),
        ('a: "\\q"\n', "x.yaml:1:6", "single quotes"),
        ("a: 1\x07\n", "x.yaml:1", "UTF-8"),
        ("[1]: 2\n", "x.yaml:1:1", "quotes"),
        ("a: !!set {b}\n", "x.yaml:1:4", "tag"),
        ("a: " + "9" * 6000, "x.yaml:1:4", "quotes"),
    ],
)
def test_what_is_no_yaml_is_told_with_line_and_column(text: str, where: str, cure: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, "x.yaml")
    line = str(caught.value)
    assert line.startswith(f"{where}")
    assert cure in caught.value.faults[0].cure
    assert len(line) < 400


def test_a_file_that_is_too_large_or_not_there_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(SettingsError, match="too large"):
        read_marked(path)
    with pytest.raises(SettingsError, match="no such file"):
        read_marked(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("name", "names", "near"),
    [
        ("gpro", ["gspo", "grpo", "rpg"], "grpo"),
        ("promts", ["prompts", "epochs"], "prompts"),
        ("Top-P", ["top_k", "top_p"], "top_p"),
        ("zzzz", ["prompts", "epochs"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_found(name: str, names: list[str], near: str | None) -> None:
    assert nearest(name, names) == near


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé 1e-:#'\"{[x.yn~", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_1", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), plain, min_size=1, max_size=4))
def test_what_is_written_as_yaml_is_read_back_the_same(data: dict[str, Any]) -> None:
    read = parse(write(data))[0]
    assert json.dumps(read) == json.dumps(data)


@given(st.text(max_size=30))
def test_any_word_is_a_value_or_a_clear_fault(text: str) -> None:
    try:
        value = scalar(text)
    except SettingsError as error:
        value = error.faults[0].cure
    assert value is None or isinstance(value, bool | int | float | str | list | dict)
