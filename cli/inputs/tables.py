"""CSV and Parquet with a picture a row, by its path or in itself -> keys, pictures and labels. It must not decode one.

The column of the pictures is called `path`, `file`, `filename`, `file_name` or `image`, those of labels as in files of
arrays, that of keys `key`. CSV whose columns are pixels is read as arrays are.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cli.errors import CommandError
from training.data.arrays import LABELS, is_csv, labels_of
from training.data.idx import open_plain
from training.errors import DataError
from twinvec_client import Digit

PATHS = ("path", "file_path", "filepath", "file", "filename", "file_name", "image", "picture", "img")
ROWS = 1024  # at a time
_BATCH_BYTES = 2**30  # of the rows at a time, at most
_LARGEST = 2**31  # bytes of a column in a row group of Parquet, unpacked
_LONGEST_LINE = 2**20  # bytes; csv takes fields of an eighth of that
Item = tuple[str, Digit]


def is_table(path: Path) -> bool:
    """Whether a file has a picture a row: any Parquet, and CSV with a column of paths. Raises DataError."""
    if path.suffix.lower() == ".parquet":
        return True
    if not is_csv(path):
        return False
    with _csv_errors(path), open_plain(path) as raw:
        return _column(_heading(raw.readline(_LONGEST_LINE)), PATHS) is not None


def pictures_of(path: Path, label_column: str | None) -> Iterator[Item]:
    """Every row's, in order; a path is taken from the folder of the table, which it must not leave.

    label_column: None for the one that is called as labels are. Raises DataError, CommandError.
    """
    rows = _parquet_rows(path, label_column) if path.suffix.lower() == ".parquet" else _csv_rows(path, label_column)
    folder = path.absolute().parent.resolve()
    for at, (key, picture, label) in enumerate(rows, 1):
        if isinstance(picture, str):
            file = path.parent / picture
            if not file.resolve().is_relative_to(folder):
                raise CommandError(f"{path}: row {at:,}: {picture!r:.80} is not in the folder of the table: move one")
            yield key or file.as_posix(), Digit(file, _label(path, at, label))
        elif isinstance(picture, bytes):
            yield key or f"{path.as_posix()}#{at - 1}", Digit(picture, _label(path, at, label))
        else:
            raise CommandError(f"{path}: row {at:,} has neither a path nor the bytes of a picture")


def _csv_rows(path: Path, label_column: str | None) -> Iterator[tuple[str | None, Any, Any]]:
    with _csv_errors(path), open_plain(path) as raw:
        first = raw.readline(_LONGEST_LINE)
        heading = _heading(first)
        columns = _columns(path, heading, label_column)
        lines = (line.decode() for line in iter(partial(raw.readline, _LONGEST_LINE), b""))
        for row in csv.reader(lines, delimiter=_delimiter(first.decode("utf-8-sig"))):
            if row:
                key, picture, label = (None if at is None or at >= len(row) else row[at].strip() for at in columns)
                yield key, picture or None, label or None


def _parquet_rows(path: Path, label_column: str | None) -> Iterator[tuple[str | None, Any, Any]]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415  # an extra: other files do without
    except ImportError:
        raise CommandError(f"{path}: Parquet is read by pyarrow: `pip install pyarrow`") from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = _columns(path, [name.strip().lower() for name in names], label_column)
            wanted = [None if at is None else names[at] for at in columns]
            read = [name for name in wanted if name is not None]
            for batch in file.iter_batches(_at_once(path, file.metadata), columns=read):
                held = [None if name is None else batch[name] for name in wanted]
                for row in range(batch.num_rows):
                    key, picture, label = (None if column is None else column[row].as_py() for column in held)
                    yield None if key is None else str(key), _content(picture), label
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error}. Fetch an intact copy.") from error


def _at_once(path: Path, metadata: Any) -> int:
    """Rows at a time, so that they fit in memory though one value stands in all of them. Raises DataError."""
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    sizes = [group.column(at).total_uncompressed_size for group in groups for at in range(group.num_columns)]
    largest = max(sizes, default=0)
    if largest > _LARGEST:
        raise DataError(
            f"{path} has a column of {largest:,} bytes in one row group, more than the {_LARGEST:,} that are read at "
            f"once: write it with smaller groups."
        )
    return min(ROWS, max(1, _BATCH_BYTES // max(1, largest)))


def _content(picture: Any) -> Any:
    """A path or bytes; a struct of both is how data sets of pictures are published."""
    return (picture.get("bytes") or picture.get("path")) if isinstance(picture, dict) else picture


def _columns(path: Path, heading: list[str], label_column: str | None) -> tuple[int | None, int | None, int | None]:
    """Where key, picture and label stand. Raises CommandError."""
    picture = _column(heading, PATHS)
    if picture is None:
        raise CommandError(f"{path} has the columns {', '.join(heading)!s:.200}: call that of the pictures `path`")
    if label_column is not None and label_column.lower() not in heading:
        raise CommandError(f"{path} has no column {label_column!r}, but {', '.join(heading)!s:.200}")
    label = _column(heading, LABELS if label_column is None else (label_column.lower(),))
    return _column(heading, ("key",)), picture, label


def _column(heading: list[str], names: tuple[str, ...]) -> int | None:
    return next((heading.index(name) for name in names if name in heading), None)


def _heading(line: bytes) -> list[str]:
    text = line.decode("utf-8-sig")
    return [word.strip().lower() for word in next(csv.reader([text], delimiter=_delimiter(text)), [])]


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _label(path: Path, row: int, label: Any) -> int | None:
    if label is None:
        return None
    (known,) = labels_of(np.array([label]), f"the labels in {path}").tolist()
    if not isinstance(known, int):
        raise CommandError(
            f"{path}: row {row:,}: the label {known!r:.40} is a word; digits are stored with integers: number the "
            f"classes"
        )
    return known


@contextmanager
def _csv_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or ("it is not text" if isinstance(error, ValueError) else error)
        raise DataError(f"{path} cannot be read: {reason}. Fetch an intact copy.") from error
