"""A reader of Parquet files. Whatever is wrong with a row, the error names the file and the row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from saebench.data.rows import Row
from saebench.data.source import PARQUET, head_of, most_bytes, too_large
from saebench.errors import DataError, did_you_mean
from saebench.files import open_regular, storable_text

_ROWS = 1024  # the rows that are read at a time


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the wanted fields of each row of a table. A column may be a field of another, such as ``prompt.text``.

    Raises:
        DataError: The file cannot be read, is no Parquet file, is damaged or too large, or a column is missing.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    name = storable_text(str(path))
    if not head_of(path).startswith(PARQUET):
        raise DataError(f"{name} is not a Parquet file; give a file of JSON Lines as 'jsonl:{name}', for example.")
    try:
        with open_regular(path) as file:
            _check(ParquetFile(file), columns, path)
            file.seek(0)
            # Repeated texts are kept once, as they are in the file, so that a small file cannot become a huge table.
            table = ParquetFile(file, read_dictionary=list(columns), page_checksum_verification=True)
            yield from _rows(table, columns, path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise DataError(f"{name} cannot be read as Parquet ({reason}); get a complete copy of it.") from error


def _check(table: Any, columns: Sequence[str], path: Path) -> None:
    """Raise DataError if a column is missing, or if the columns are too large."""
    name = storable_text(str(path))
    leaves = [table.schema.column(number) for number in range(len(table.schema))]
    known = {leaf.path: number for number, leaf in enumerate(leaves) if leaf.max_repetition_level == 0}
    for column in columns:
        if column not in known:
            nested = [f"{column}.{part}" for part in ("text", "prompt", "content") if f"{column}.{part}" in known]
            hint = f" Did you mean {nested[0]!r}?" if nested else did_you_mean(column, known)
            raise DataError(f"{name} has no column {column!r}.{hint} Its columns are {', '.join([*known][:20])}.")
    groups = (table.metadata.row_group(number) for number in range(table.metadata.num_row_groups))
    size = sum(group.column(known[column]).total_uncompressed_size for group in groups for column in columns)
    if size > (most := most_bytes()):
        raise too_large(path, most)


def _rows(table: Any, columns: Sequence[str], path: Path) -> Iterator[Row]:
    name = storable_text(str(path))
    total, most, number = 0, most_bytes(), 0
    for batch in table.iter_batches(batch_size=_ROWS, columns=list(columns)):
        batch.validate(full=True)  # a damaged file may refer to texts that it does not have
        values = [_values(batch, column) for column in columns]
        for row in zip(*values, strict=True):
            number += 1
            total += sum(len(value) for value in row if isinstance(value, str))
            if total > most:
                raise too_large(path, most)
            yield Row(dict(zip(columns, row, strict=True)), f"{name}, row {number}")


def _values(batch: Any, column: str) -> list[Any]:
    """Return the values of a column, of which equal texts are one object."""
    import pyarrow
    from pyarrow import compute

    first, *inner = [column] if column in batch.schema.names else column.split(".")
    array = batch.column(first)
    if inner:
        array = compute.struct_field(array, inner)
    if not isinstance(array, pyarrow.DictionaryArray):
        return array.to_pylist()
    distinct = array.dictionary.to_pylist()
    return [None if place is None else distinct[place] for place in array.indices.to_pylist()]
