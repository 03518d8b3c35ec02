"""Writes rollouts: the same bytes for the same rollouts.

Rows stand in order of (group, k). `messages`, `scores` and `metadata` are JSON texts; `scores` maps a source to
`{outcome, value, reason}`. Log-probs and entropies are float32 (they come from float32 arithmetic, so nothing is lost);
everything else round-trips exactly.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from klimb.atomic import write_atomic
from klimb.errors import DataError
from klimb.records import plain
from klimb.rollouts.form import COLUMNS, ROW_GROUP, SCHEMA
from klimb.types import Group, Rollout


def write(path: Path, groups: Sequence[Group], step: int | Sequence[int]) -> None:
    """Writes the rollouts of a step, or of groups that each have theirs, atomically.

    Raises DataError (row, field) for what the format cannot hold.
    """
    write_atomic(path, to_bytes(groups, step))


def to_bytes(groups: Sequence[Group], step: int | Sequence[int]) -> bytes:
    """The content of the file that `write` writes."""
    steps = [step] * len(groups) if isinstance(step, int) else step
    rows = [row for index, (group, at) in enumerate(zip(groups, steps, strict=True)) for row in _rows(group, index, at)]
    arrays = [_array(name, kind, [row[name] for row in rows]) for name, kind, _ in COLUMNS]
    buffer = io.BytesIO()
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    form = {"compression": "zstd", "compression_level": 3, "version": "2.6", "data_page_version": "1.0"}
    pq.write_table(table, buffer, row_group_size=ROW_GROUP, **form)
    return buffer.getvalue()


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
        "temperature": transform.temperature if transform.known else None,
        "top_p": transform.top_p if transform.known else None,
        "top_k": transform.top_k if transform.known else None,
        "forking": transform.forking,
        "version": group.version,
        "metadata": _json(plain(prompt.metadata)),
        "template": group.template or None,
        "age": group.age,
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
        "estimated": done.estimated or None,
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


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
