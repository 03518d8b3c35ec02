"""Prompts from Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from klimb.data.faulty import Faults
from klimb.data.rows import Rows
from klimb.errors import DataError
from klimb.nearest import nearest


class Parquet(Rows):
    """Reads `path`, and holds out the rows of `held_out`, or else a share of the prompts."""

    type: Literal["parquet"] = "parquet"
    path: Path
    """The file with the training rows, from the working directory."""
    held_out: Path | None = None
    """The file with the held-out rows."""

    def sides(self, faults: Faults) -> tuple[Iterator[tuple[str, int, Mapping[str, Any]]], ...]:
        paths = [self.path] if self.held_out is None else [self.path, self.held_out]
        return tuple(_rows(path, self.fields().named, faults) for path in paths)

    def source(self) -> str:
        return str(self.path)


def _rows(path: Path, columns: list[str], faults: Faults) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    import pyarrow as pa
    from pyarrow import parquet

    asked = f"rows of the Parquet file {path}"
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for lost in [name for name in columns if name not in names]:
                near = nearest(lost, names)
                cure = f"the column {near!r}?" if near else "name a column that is there"
                faults.add(f"{path}, column {lost!r}", f"no such column; it has {', '.join(names)}"[:160], cure)
            if all(name in names for name in columns):
                yield from _batches(file.iter_batches(1024, columns=columns), str(path), faults)
    except FileNotFoundError as error:
        raise DataError(asked, "no such file", "correct the path; it counts from the working directory") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        found = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise DataError(asked, found, "give a whole Parquet file") from error


def _batches(batches: Iterator[Any], path: str, faults: Faults) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    first = 1
    for batch in batches:
        for index in range(batch.num_rows):
            try:
                row = batch.slice(index, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:  # text that is not UTF-8 is a ValueError too
                faults.add(f"{path}, row {first + index}", str(error)[:120], "mend the value")
            else:
                yield path, first + index, row
        first += batch.num_rows
