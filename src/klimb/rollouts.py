"""Rollouts on disk: one Parquet file a step, one row a completion, written the same to the byte for the same rollouts.

Format `klimb.rollouts`, version 1 (in the schema's metadata). Columns: `COLUMNS`. Rows stand in order of (group, k).
`messages`, `scores` and `metadata` are JSON texts; `scores` maps a source to `{outcome, value, reason}`. Log-probs and
entropies are float32 (they come from float32 arithmetic, so nothing is lost); everything else round-trips exactly.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from klimb.atomic import write_atomic
from klimb.errors import DataError
from klimb.records import plain
from klimb.types import Completion, Finish, Group, Message, Outcome, Prompt, Rollout, Score, Transform

FORMAT, VERSION = b"klimb.rollouts", b"1"

COLUMNS: tuple[tuple[str, pa.DataType, bool], ...] = (
    ("step", pa.int64(), False),
    ("group", pa.int32(), False),
    ("prompt_id", pa.string(), False),
    ("prompt_tokens", pa.list_(pa.int32()), False),
    ("prompt_text", pa.string(), True),
    ("messages", pa.string(), True),
    ("answer", pa.string(), True),
    ("k", pa.int32(), False),
    ("seed", pa.int64(), False),
    ("tokens", pa.list_(pa.int32()), False),
    ("logps", pa.list_(pa.float32()), False),
    ("entropies", pa.list_(pa.float32()), False),
    ("text", pa.string(), False),
    ("finish", pa.string(), False),
    ("scores", pa.string(), False),
    ("reward", pa.float64(), True),
    ("temperature", pa.float64(), False),
    ("top_p", pa.float64(), False),
    ("top_k", pa.int32(), False),
    ("forking", pa.list_(pa.float64()), True),
    ("version", pa.string(), False),
    ("metadata", pa.string(), False),
)
"""Name, type and whether null is allowed, of each column."""

SCHEMA = pa.schema([pa.field(name, kind, null) for name, kind, null in COLUMNS], metadata={FORMAT: VERSION})


def write(path: Path, groups: Sequence[Group], step: int) -> None:
    """Writes the rollouts of a step, atomically. Raises DataError (row, field) for what the format cannot hold."""
    rows = [row for index, group in enumerate(groups) for row in _rows(group, index, step)]
    arrays = [_array(name, kind, [row[name] for row in rows]) for name, kind, _ in COLUMNS]
    buffer = io.BytesIO()
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    pq.write_table(table, buffer, compression="zstd", compression_level=3, version="2.6", data_page_version="1.0")
    write_atomic(path, buffer.getvalue())


def read(path: Path) -> list[Group]:
    """The groups of a rollouts file, in order. Raises DataError naming file, row and field."""
    rows = read_table(path).to_pylist()
    return [_group(path, start, [row for _, row in members]) for start, members in _runs(rows)]


def read_table(path: Path) -> pa.Table:
    """The checked table itself, for viewers. Raises DataError where it is not a rollouts file of a version we know."""
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"rollouts in {path}", f"not a Parquet file ({error})", "the file that klimb wrote") from error
    found = (table.schema.metadata or {}).get(FORMAT)
    if found != VERSION:
        raise DataError(
            f"{path}: rollouts of format version 1",
            f"version {found and found.decode(errors='replace')}",
            "a file that klimb wrote, or the klimb that wrote it",
        )
    if "forking" not in table.schema.names:  # a file from before there was such a thing
        table = table.append_column(SCHEMA.field("forking"), pa.nulls(table.num_rows, SCHEMA.field("forking").type))
    for name, kind, null in COLUMNS:
        if name not in table.schema.names or table.schema.field(name).type != kind:
            kinds = table.schema.field(name).type if name in table.schema.names else "no such column"
            raise DataError(f"{path}: field {name!r} of type {kind}", str(kinds), "the file that klimb wrote")
        if not null and table.column(name).null_count:
            row = table.column(name).is_null().to_pylist().index(True)
            raise _fault(path, row, name, "a value", "null")
    return table


def _rows(group: Group, index: int, step: int) -> Iterable[dict[str, Any]]:
    prompt, transform = group.prompt, group.transform
    if not group.rollouts:
        raise DataError(f"rollouts of prompt {prompt.id!r}", "a group without any", "leave the group out")
    shared = {
        "step": step,
        "group": index,
        "prompt_id": prompt.id,
        "prompt_tokens": prompt.tokens,
        "prompt_text": prompt.text,
        "messages": _json([{"role": m.role, "content": m.content} for m in prompt.messages])
        if prompt.messages
        else None,
        "answer": prompt.answer,
        "temperature": transform.temperature,
        "top_p": transform.top_p,
        "top_k": transform.top_k,
        "forking": transform.forking,
        "version": group.version,
        "metadata": _json(plain(prompt.metadata)),
    }
    for rollout in group.rollouts:
        yield {**shared, **_completion_columns(rollout)}


def _completion_columns(rollout: Rollout) -> dict[str, Any]:
    done = rollout.completion
    scores = {n: {"outcome": s.outcome.value, "value": s.value, "reason": s.reason} for n, s in rollout.scores.items()}
    return {
        "k": rollout.k,
        "seed": rollout.seed,
        "tokens": done.tokens,
        "logps": done.logps,
        "entropies": done.entropies,
        "text": done.text,
        "finish": done.finish.value,
        "scores": _json(scores),
        "reward": rollout.reward,
    }


def _array(name: str, kind: pa.DataType, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
        for row, value in enumerate(values):
            try:
                pa.array([value], kind)
            except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError) as error:
                raise DataError(f"rollouts row {row}, field {name!r}: {kind}", ascii(value)[:80], str(error)) from error
        raise


def _runs(rows: list[dict[str, Any]]) -> Iterable[tuple[int, list[tuple[int, dict[str, Any]]]]]:
    """The rows of each group with the number of its first row."""
    for _, members in groupby(enumerate(rows), key=lambda pair: pair[1]["group"]):
        listed = list(members)
        yield listed[0][0], listed


def _group(path: Path, start: int, rows: list[dict[str, Any]]) -> Group:
    first = rows[0]
    messages = _from_json(path, start, "messages", first["messages"] or "[]", list)
    try:
        turns = tuple(Message(str(turn["role"]), str(turn["content"])) for turn in messages)
    except (KeyError, TypeError) as error:
        raise _fault(path, start, "messages", "a list of {role, content}", first["messages"][:80]) from error
    prompt = Prompt(
        first["prompt_id"],
        turns,
        first["prompt_text"],
        first["answer"],
        _from_json(path, start, "metadata", first["metadata"], dict),
        tuple(first["prompt_tokens"]),
    )
    for row, other in enumerate(rows[1:], start + 1):
        if other["prompt_id"] != prompt.id:
            raise _fault(path, row, "prompt_id", f"{prompt.id!r} as in the rest of its group", repr(other["prompt_id"]))
    transform = Transform(
        first["temperature"], first["top_p"], first["top_k"], tuple(first["forking"]) if first["forking"] else None
    )
    rollouts = tuple(_rollout(path, row, value) for row, value in enumerate(rows, start))
    return Group(prompt, rollouts, transform, first["version"])


def _rollout(path: Path, row: int, value: Mapping[str, Any]) -> Rollout:
    for name in ("logps", "entropies"):
        if value[name] and len(value[name]) != len(value["tokens"]):
            raise _fault(path, row, name, f"{len(value['tokens'])} numbers, one a token", str(len(value[name])))
    try:
        finish = Finish(value["finish"])
    except ValueError as error:
        raise _fault(path, row, "finish", "one of " + ", ".join(Finish), repr(value["finish"])) from error
    done = Completion(tuple(value["tokens"]), tuple(value["logps"]), value["text"], finish, tuple(value["entropies"]))
    scores = _from_json(path, row, "scores", value["scores"], dict)
    try:
        named = {n: Score(Outcome(s["outcome"]), s["value"], s["reason"]) for n, s in scores.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise _fault(path, row, "scores", "a map of source to {outcome, value, reason}", str(error)) from error
    if value["reward"] is not None and not math.isfinite(value["reward"]):
        raise _fault(path, row, "reward", "a finite number or null", str(value["reward"]))
    return Rollout(done, value["k"], value["seed"], named, value["reward"])


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _from_json(path: Path, row: int, name: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _fault(path, row, name, "JSON", str(error)) from error
    if not isinstance(value, kind):
        raise _fault(path, row, name, f"a JSON {kind.__name__}", type(value).__name__)
    return value


def _fault(path: Path, row: int, name: str, asked: str, found: str) -> DataError:
    return DataError(f"{path}, row {row}, field {name!r}: {asked}", found, "the file that klimb wrote")
