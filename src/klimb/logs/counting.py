"""What logs hold, counted in one pass over row groups, in memory that grows by a few numbers a row."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from klimb.errors import DataError
from klimb.logs.usable import marks
from klimb.rollouts import files_of, tables

Numbers = NDArray[np.float64]
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SOURCES = 64
"""The most score sources that are told apart: each keeps its values. The scores of further ones are counted."""


@dataclass(slots=True)
class Source:
    """The scores of one source."""

    values: array[float] = field(default_factory=lambda: array("d"))
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Counted:
    """One entry a row in the arrays: the hash of the prompt's content, that of its id, reward (NaN = none), length.

    `marks` has the bits of `usable` of each row, `starts` the first row of each group.
    """

    rows: int = 0
    groups: int = 0
    logged: int = 0
    estimated: int = 0
    untokenised: int = 0
    truncated: int = 0
    cut_support: int = 0
    further_scores: int = 0
    logp_sum: float = 0.0
    logp_tokens: int = 0
    prompts: array[int] = field(default_factory=lambda: array("q"))
    ids: array[int] = field(default_factory=lambda: array("q"))
    rewards: array[float] = field(default_factory=lambda: array("d"))
    lengths: array[int] = field(default_factory=lambda: array("i"))
    marks: array[int] = field(default_factory=lambda: array("H"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    sources: dict[str, Source] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    estimators: Counter[str] = field(default_factory=Counter)


def count(logs: Path) -> Counted:
    """Counts every row. Raises DataError."""
    found = Counted()
    for path in files_of(logs):
        last = -1
        for _, table in tables(path):
            groups = table.column("group").to_numpy()
            found.starts.extend((found.rows + np.flatnonzero(np.diff(groups, prepend=last))).tolist())
            _add(found, table)
            last = int(groups[-1]) if len(groups) else last
    found.groups = len(found.starts)
    return found


def _add(found: Counted, table: pa.Table) -> None:
    lengths = pc.list_value_length(table.column("tokens")).to_numpy()
    with_logps = pc.list_value_length(table.column("logps")).to_numpy() > 0
    guessed = pc.is_valid(table.column("estimated")).to_numpy()
    found.rows += table.num_rows
    found.logged += int((with_logps & ~guessed).sum())
    found.estimated += int((with_logps & guessed).sum())
    found.untokenised += int((lengths == 0).sum())
    found.truncated += pc.sum(pc.equal(table.column("finish"), "length")).as_py() or 0
    cut = pc.or_(pc.less(table.column("top_p"), 1.0), pc.greater(table.column("top_k"), 0))
    found.cut_support += pc.sum(pc.fill_null(cut, False)).as_py() or 0
    logps = pc.list_flatten(table.column("logps"))
    found.logp_sum += pc.sum(logps).as_py() or 0.0
    found.logp_tokens += len(logps)
    found.prompts.extend(_contents(table))
    found.ids.extend(_coded(table.column("prompt_id"), _hash))
    found.rewards.extend(pc.fill_null(table.column("reward"), float("nan")).to_numpy().tolist())
    found.lengths.extend(lengths.tolist())
    found.marks.frombytes(marks(table).tobytes())
    _tally(found.versions, table.column("version"))
    _tally(found.estimators, pc.drop_null(table.column("estimated")))
    _scores(found, table.column("scores"))


def _tally(counter: Counter[str], column: pa.ChunkedArray) -> None:
    for entry in pc.value_counts(column).to_pylist():
        counter[entry["values"]] += entry["counts"]


def _hash(value: Any) -> int:
    content = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


def _coded(column: pa.ChunkedArray, code: Any) -> Iterator[int]:
    """The code of each value, worked out once for each different one."""
    for chunk in column.dictionary_encode().chunks:
        codes = np.array([code(value) for value in chunk.dictionary.to_pylist()], np.int64)
        yield from codes[chunk.indices.to_numpy()].tolist()


def _contents(table: pa.Table) -> Iterator[int]:
    """A hash of what was asked: the messages or the text; the tokens where there is neither."""
    words = pc.coalesce(table.column("messages"), table.column("prompt_text"), pa.scalar("", pa.string()))
    hashes = list(_coded(words, _hash))
    if _hash("") in hashes:
        tokens = table.column("prompt_tokens").to_pylist()
        hashes = [
            _hash(np.array(t, np.int32).tobytes()) if h == _hash("") else h for h, t in zip(hashes, tokens, strict=True)
        ]
    yield from hashes


def _scores(found: Counted, column: pa.ChunkedArray) -> None:
    for chunk in column.dictionary_encode().chunks:
        counts = np.bincount(chunk.indices.to_numpy(), minlength=len(chunk.dictionary))
        for text, times in zip(chunk.dictionary.to_pylist(), counts.tolist(), strict=True):
            try:
                named: Mapping[str, Any] = json.loads(text)
                pairs = [(str(name), str(score["outcome"]), score["value"]) for name, score in named.items()]
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError("scores of a rollouts file", ascii(text)[:60], "klimb logs check FILE") from error
            for name, outcome, value in pairs:
                if name in found.sources or len(found.sources) < SOURCES:
                    source = found.sources.setdefault(name, Source())
                    source.outcomes[outcome] += times
                    if value is not None:
                        source.values.extend([float(value)] * times)
                else:
                    found.further_scores += times


def spread(values: Sequence[float] | Numbers) -> dict[str, float] | None:
    """Mean, standard deviation and quantiles; None for no values."""
    numbers = np.asarray(values, np.float64)
    if not len(numbers):
        return None
    marks = np.quantile(numbers, QUANTILES).tolist()
    named = {f"q{round(100 * q)}": mark for q, mark in zip(QUANTILES, marks, strict=True)}
    return {"mean": float(numbers.mean()), "sd": float(numbers.std()), **named}
