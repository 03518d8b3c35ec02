"""Reads rollouts, those of older versions too; what is broken is named by row and field. Rows count from 0."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from klimb.errors import DataError
from klimb.records import used
from klimb.rollouts.form import CURE, ROW_GROUP, current, fault, major_of, with_nulls
from klimb.types import Completion, Finish, Group, Message, Outcome, Prompt, Rollout, Score, Transform

SHARED = (
    "prompt_id", "prompt_tokens", "prompt_text", "messages", "answer", "metadata", "temperature", "top_p", "top_k",
    "forking", "version", "template", "age",
)  # fmt: skip
"""The columns that all rows of a group have in common."""


def read(path: Path) -> list[Group]:
    """The groups of a rollouts file, in order. Raises DataError naming file, row and field."""
    return from_bytes(_content(path), path)


def from_bytes(content: bytes, path: Path = Path("rollouts")) -> list[Group]:
    """The groups of a rollouts file's content; `path` is what errors call it. Raises DataError."""
    rows, known = _table(content, path).to_pylist(), dict[str, dict[str, Score]]()
    return [_group(path, start, [row for _, row in members], known) for start, members in _runs(rows)]


def files_of(logs: Path) -> list[Path]:
    """The rollouts files of a file, a folder or a run directory, in order, none of discarded ones. Raises DataError."""
    folder = logs / "rollouts" if (logs / "rollouts").is_dir() else logs
    files = used(folder) if folder.is_dir() else [logs]
    if not files:
        raise DataError(f"rollouts in {logs}", "no .parquet file", "a rollouts file, a folder of them, or a run")
    return files


def read_table(path: Path) -> pa.Table:
    """The checked table itself, for viewers. Raises DataError where it is not a rollouts file of a version we know."""
    return _table(_content(path), path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _no_parquet(path, error) from error


def _table(content: bytes, path: Path) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (OSError, pa.ArrowException) as error:
        raise _no_parquet(path, error) from error
    return current(table, path)


def tables(path: Path, rows: int = ROW_GROUP) -> Iterator[tuple[int, pa.Table]]:
    """The checked table in parts of at most `rows` rows, each with the number of its first. Raises DataError."""
    for first, part in parts(path, rows):
        yield first, current(part, path, first)


def parts(path: Path, rows: int = ROW_GROUP) -> Iterator[tuple[int, pa.Table]]:
    """As `tables`, with nulls where the format allows none: for who looks for faults. Raises DataError."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            major_of(file.schema_arrow, path)
            first = 0
            for batch in file.iter_batches(rows):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata)
                yield first, with_nulls(table, path)
                first += table.num_rows
    except (OSError, pa.ArrowException) as error:
        raise _no_parquet(path, error) from error


def _no_parquet(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"rollouts in {path}", "no such file", "correct the path; it counts from the working directory"
        )
    return DataError(f"rollouts in {path}", f"not a Parquet file ({error})", CURE)


def _runs(rows: list[dict[str, Any]]) -> Iterable[tuple[int, list[tuple[int, dict[str, Any]]]]]:
    """The rows of each group with the number of its first row."""
    for _, members in groupby(enumerate(rows), key=lambda pair: pair[1]["group"]):
        listed = list(members)
        yield listed[0][0], listed


def _group(path: Path, start: int, rows: list[dict[str, Any]], known: dict[str, dict[str, Score]]) -> Group:
    first = rows[0]
    prompt = prompt_of(path, start, first)
    for row, other in enumerate(rows[1:], start + 1):
        for name in SHARED:
            if other[name] != first[name]:
                raise fault(path, row, name, f"{first[name]!r} as in the rest of its group", repr(other[name]))
    rollouts = tuple(rollout_of(path, row, value, known) for row, value in enumerate(rows, start))
    return Group(
        prompt,
        rollouts,
        transform_of(path, start, first),
        first["version"],
        first["template"] or "",
        first["age"],
    )


def prompt_of(path: Path, row: int, value: Mapping[str, Any]) -> Prompt:
    """The prompt of a row. Raises DataError."""
    messages = _from_json(path, row, "messages", value["messages"] or "[]", list)
    try:
        turns = tuple(Message(str(turn["role"]), str(turn["content"])) for turn in messages)
    except (KeyError, TypeError) as error:
        raise fault(path, row, "messages", "a list of {role, content}", value["messages"][:80]) from error
    metadata = _from_json(path, row, "metadata", value["metadata"], dict)
    tokens = tuple(value["prompt_tokens"])
    return Prompt(value["prompt_id"], turns, value["prompt_text"], value["answer"], metadata, tokens)


def transform_of(path: Path, row: int, value: Mapping[str, Any]) -> Transform:
    """What the sampler did to a row: all of it is known, or none. Raises DataError."""
    parts = [value[name] for name in ("temperature", "top_p", "top_k")]
    if all(part is None for part in parts):
        return Transform(known=False)
    for name, part in zip(("temperature", "top_p", "top_k"), parts, strict=True):
        if part is None:
            raise fault(path, row, name, "a value, as its siblings have", "null")
    forking = tuple(value["forking"]) if value["forking"] else None
    return Transform(value["temperature"], value["top_p"], value["top_k"], forking=forking)


def rollout_of(
    path: Path, row: int, value: Mapping[str, Any], known: dict[str, dict[str, Score]] | None = None
) -> Rollout:
    """The completion of a row with its scores; those that are `known` by their text are not read again, nor shared.

    Raises DataError.
    """
    for name in ("logps", "entropies"):
        if value[name] and len(value[name]) != len(value["tokens"]):
            raise fault(path, row, name, f"{len(value['tokens'])} numbers, one a token", str(len(value[name])))
    try:
        finish = Finish(value["finish"])
    except ValueError as error:
        raise fault(path, row, "finish", "one of " + ", ".join(Finish), repr(value["finish"])) from error
    done = Completion(
        tuple(value["tokens"]),
        tuple(value["logps"]),
        value["text"],
        finish,
        tuple(value["entropies"]),
        value["estimated"] or "",
    )
    known = {} if known is None else known
    if (text := value["scores"]) not in known:
        known[text] = _scores(path, row, text)
    if value["reward"] is not None and not math.isfinite(value["reward"]):
        raise fault(path, row, "reward", "a finite number or null", str(value["reward"]))
    return Rollout(done, value["k"], value["seed"], dict(known[text]), value["reward"])


def _scores(path: Path, row: int, text: str) -> dict[str, Score]:
    scores = _from_json(path, row, "scores", text, dict)
    try:
        return {n: Score(Outcome(s["outcome"]), s["value"], s["reason"]) for n, s in scores.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise fault(path, row, "scores", "a map of source to {outcome, value, reason}", str(error)) from error


def _from_json(path: Path, row: int, name: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise fault(path, row, name, "JSON", str(error)) from error
    if not isinstance(value, kind):
        raise fault(path, row, name, f"a JSON {kind.__name__}", type(value).__name__)
    return value
