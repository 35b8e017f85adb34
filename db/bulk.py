"""Thousands of rows at once, past SQLAlchemy's row objects: PostgreSQL's binary format and binary COPY.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": a header, then each row as a count of
fields and each field as its length and bytes, all big-endian, then -1. It must not know which rows are wanted, or why.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg
from psycopg import ClientCursor, generators
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.waiting import Wait
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.tables import DIMENSIONS

Query = tuple[str, Sequence[Any]]  # with `%s` for each of its parameters


class Places(NamedTuple):
    """Where vectors lie in their tower's frame, and what their digits' rows say, as search filters by it.

    cells: (n,) int16. small: (n, s) float32, or (n, 0) where there is no frame. labels: (n,) int32, -1 for none.
    collections: (n,) int32, hashes.
    """

    cells: np.ndarray[Any, Any]
    small: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    collections: np.ndarray[Any, Any]


def fetch(
    session: Session, query: str, parameters: Sequence[Any] = (), *, prepare: bool | None = None
) -> list[tuple[Any, ...]]:
    """The rows of a query with `%s` parameters, in the session's transaction. Raises the errors SQLAlchemy would.

    prepare: at once, not after a few repetitions.
    """
    with cursor(session, query, binary=True) as found:
        if found.connection.info.transaction_status == TransactionStatus.IDLE:  # it begins with this query
            with found.connection.pipeline():
                found.execute(query, parameters, prepare=prepare)
        else:
            found.execute(query, parameters, prepare=prepare)
        return list(found.fetchall())


def fetch_each(session: Session, queries: Sequence[Query], *, ends: bool = False) -> list[list[tuple[Any, ...]]]:
    """The rows of each of several queries, as `fetch`, run one after the other, each on what it then finds committed.

    They are sent together: one journey to the server, however far that is. Where one fails, none after it is run.

    ends: whether the transaction is committed with them: nothing of it may follow.
    """
    with cursor(session, "; ".join(query for query, _ in queries), binary=True) as driver:
        connection = driver.connection
        with connection.pipeline():
            asked = [connection.cursor(binary=True).execute(query, parameters) for query, parameters in queries]
            if ends:
                connection.cursor().execute("COMMIT", prepare=False)  # psycopg's `commit` waits for it at once
        # At the block's end all answers are here. One without rows has no description.
        return [list(each.fetchall()) if each.description else [] for each in asked]


def within(column: str, ids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
    """A condition, and its parameters, that holds for these ids, ascending and each once.

    A range where they follow each other, as those of a chunk do: an index is then entered once, not for each of them.
    """
    if ids and ids[-1] - ids[0] + 1 == len(ids):
        return f"{column} BETWEEN %s AND %s", (ids[0], ids[-1])
    return f"{column} = ANY(%s::bigint[])", (as_array(ids),)


def as_array(values: Iterable[int | bool | UUID | None]) -> str:
    """Numbers, or what is as plain, as PostgreSQL writes an array: a text is sent five times as fast as a list."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


class Reals(bytes):
    """Numbers as a parameter of the type `real[]`, in PostgreSQL's binary format."""

    @classmethod
    def of(cls, numbers: np.ndarray[Any, Any]) -> Reals:
        """Of (n,) float32."""
        laid = np.empty(len(numbers), [("length", ">i4"), ("value", ">f4")])
        laid["length"], laid["value"] = 4, numbers
        return cls(struct.pack(">iiIii", 1, 0, _FLOAT4, len(numbers), 1) + laid.tobytes())


class Texts(bytes):
    """Texts as a parameter of the type `text[]`, in PostgreSQL's binary format: psycopg looks at each character."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        head = struct.pack(">iiIii", 1, 0, _TEXT, len(texts), 1)
        return cls(head + b"".join([part for text in texts for part in _field(text.encode())]))


class RealsDumper(psycopg.adapt.Dumper):
    """Hands `Reals` to the server as they are."""

    format = psycopg.pq.Format.BINARY
    oid = 1021  # of `real[]`

    def dump(self, obj: Any) -> bytes:
        return bytes(obj)


class TextsDumper(RealsDumper):
    """Hands `Texts` to the server as they are."""

    oid = 1009  # of `text[]`


_FLOAT4, _TEXT = 700, 25  # the OIDs of `real` and `text`


@contextmanager
def cursor(session: Session, statement: str, *, binary: bool = False) -> Iterator[Any]:
    """psycopg's own cursor on the session's connection. Its errors are raised as SQLAlchemy's `DBAPIError`."""
    connection = session.connection()
    driver: Any = connection.connection.cursor(binary=binary)  # psycopg's: SQLAlchemy knows no COPY
    try:
        with driver:
            yield driver
    except psycopg.Error as error:
        lost = driver.connection.closed  # broken is closed, too
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, connection_invalidated=lost, dialect=connection.dialect
        ) from error


_PART = 2**20  # bytes of rows that libpq is handed at a time

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)

_TRAILER = b"\xff\xff"

_COLUMNS = "embeddings (tower, digit, vector, cell, label, collection_hash, small)"


@cache
def _embedding(small: int) -> np.dtype[Any]:
    """One row of `embeddings`, all of fixed size, so that numpy lays out any number of rows in one go.

    small: numbers of a small vector; of none, the field is NULL, which is a length of -1.
    """
    fields: list[Any] = [
        ("fields", ">i2"),
        ("tower_length", ">i4"),
        ("tower", ">i4"),
        ("digit_length", ">i4"),
        ("digit", ">i8"),
        ("vector_length", ">i4"),
        ("dimensions", ">i2"),  # pgvector's send format: dimensions, a reserved zero, float4 each
        ("reserved", ">i2"),
        ("vector", ">f4", DIMENSIONS),
        ("cell_length", ">i4"),
        ("cell", ">i2"),
        ("label_length", ">i4"),
        ("label", ">i4"),
        ("collection_length", ">i4"),
        ("collection", ">i4"),
        ("small_length", ">i4"),
    ]
    if small:
        fields += [("small_dimensions", ">i2"), ("small_reserved", ">i2"), ("small", ">f4", small)]
    return np.dtype(fields)


def copy_embeddings(
    session: Session,
    tower: int,
    digits: np.ndarray[Any, Any],
    vectors: np.ndarray[Any, Any],
    places: Places | None = None,
    *,
    ends: bool = False,
) -> None:
    """Append vectors (n, 128) float32 of the digits with ids (n,) under a tower. Without places, they have no cell.

    ends: whether the transaction is committed with them.
    """
    small = 0 if places is None else places.small.shape[1]
    rows = np.zeros(len(digits), _embedding(small))
    rows["fields"] = 7
    rows["tower_length"], rows["tower"] = 4, tower
    rows["digit_length"], rows["digit"] = 8, digits
    rows["vector_length"], rows["dimensions"] = 4 + 4 * DIMENSIONS, DIMENSIONS
    rows["vector"] = vectors
    rows["cell_length"], rows["cell"] = 2, -1 if places is None else places.cells
    rows["label_length"], rows["label"] = 4, -1 if places is None else places.labels
    rows["collection_length"], rows["collection"] = 4, 0 if places is None else places.collections
    rows["small_length"] = -1
    if places is not None and small:
        rows["small_length"], rows["small_dimensions"], rows["small"] = 4 + 4 * small, small, places.small
    _copy(session, _COLUMNS, _HEADER + rows.tobytes() + _TRAILER, ends=ends)


def copied(session: Session, query: str) -> Iterator[bytes]:
    """The rows of a query without parameters as binary COPY gives them, one after the other as they come.

    The server goes on while they are read, and neither side holds more than some of them.
    """
    statement = f"COPY ({query}) TO STDOUT (FORMAT BINARY)"
    with cursor(session, statement) as driver, driver.copy(statement) as copy:
        for at, sent in enumerate(copy):
            row = bytes(sent).removeprefix(_HEADER) if at == 0 else bytes(sent)
            if row != _TRAILER:
                yield row


_DESCRIBED = np.dtype(
    [
        ("fields", ">i2"),
        ("label_length", ">i4"),
        ("label", ">i4"),
        ("vector_length", ">i4"),
        ("dimensions", ">i2"),
        ("reserved", ">i2"),
        ("vector", ">f4", DIMENSIONS),
    ]
)


def read_described(rows: Sequence[bytes]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[str], list[str]]:
    """Copied rows of (label integer, vector, text, text), none of them NULL -> labels (n,) int32, vectors (n, 128)
    float32, and both texts."""
    fixed = _DESCRIBED.itemsize
    heads = np.frombuffer(b"".join([row[:fixed] for row in rows]), _DESCRIBED)
    ends = [fixed + 4 + int.from_bytes(row[fixed : fixed + 4], "big") for row in rows]
    first = [row[fixed + 4 : end].decode() for row, end in zip(rows, ends, strict=True)]
    second = [row[end + 4 :].decode() for row, end in zip(rows, ends, strict=True)]
    return heads["label"].astype(np.int32), heads["vector"].astype(np.float32), first, second


def sent_vectors(sent: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """Vectors as pgvector sends them -> (n, 128) float32."""
    kind = np.dtype([("dimensions", ">i2"), ("reserved", ">i2"), ("vector", ">f4", DIMENSIONS)])
    vectors: np.ndarray[Any, Any] = np.frombuffer(b"".join(sent), kind)["vector"].astype(np.float32)
    return vectors


class NewDigits(NamedTuple):
    """Rows of `digits`, by column.

    ids: (n,) int64. pixels: (n, 784) uint8. digests: (n, 32) uint8, SHA-256 of each. jobs: (n, 16) uint8, that bring
    them, or (16,), one that brings all. attributes: JSON objects. made: (n,) bool, those that may be doubtful.
    doubtful: (n,) bool, which of these are; None where it is not known yet.
    """

    ids: np.ndarray[Any, Any]
    keys: Sequence[str]
    collections: Sequence[str]
    pixels: np.ndarray[Any, Any]
    digests: np.ndarray[Any, Any]
    jobs: np.ndarray[Any, Any]
    labels: Sequence[int | None]
    attributes: Sequence[dict[str, Any] | None]
    made: np.ndarray[Any, Any]
    doubtful: np.ndarray[Any, Any] | None = None


def copy_digits(
    session: Session, digits: NewDigits, *, seq: int | None = None, then: Sequence[Query] = (), ends: bool = False
) -> None:
    """Append digits. seq: the number of the chunk that brings them. then, ends: statements that are run next, and
    whether the transaction is committed with them."""
    columns = "id, pixels, sha256, job, seq, label, doubtful, collection, key, attributes"
    keys = [key.encode() for key in digits.keys]
    forms: defaultdict[Any, list[int]] = defaultdict(list)  # rows of one form are of one size, but for their attributes
    each = zip(keys, digits.labels, digits.made.tolist(), digits.attributes, digits.collections, strict=True)
    for row, (key, label, made, attributes, name) in enumerate(each):
        forms[len(key), label is None, made, attributes is None, name].append(row)
    parts: list[Any] = []
    for (size, unlabelled, made, bare, name), rows in forms.items():
        places = slice(None) if len(rows) == len(keys) else rows
        doubtful: Any = False if digits.doubtful is None else digits.doubtful[places]
        fields = [
            (">i8", digits.ids[places]),
            _raw(digits.pixels[places]),
            _raw(digits.digests[places]),
            _raw(digits.jobs if digits.jobs.ndim == 1 else digits.jobs[places]),
            (">i4", seq),
            (">i4", None if unlabelled else [digits.labels[row] for row in rows]),
            ("?", doubtful if made else None),
            _raw(np.frombuffer(name.encode(), np.uint8)),
            _raw(np.frombuffer(b"".join([keys[row] for row in rows]), np.uint8).reshape(-1, size)),
        ]
        if bare:
            parts.append(_laid_out(len(rows), [*fields, ("", None)]).view(np.uint8))
            continue
        for row, laid in zip(rows, _laid_out(len(rows), fields, more=1), strict=True):
            described = _JSONB + json.dumps(digits.attributes[row]).encode()
            parts += (laid.tobytes(), *_field(described))
    _copy(session, f"digits ({columns})", b"".join((_HEADER, *parts, _TRAILER)), then=then, ends=ends)


_length = struct.Struct(">i").pack
_JSONB = b"\1"  # the version of jsonb's binary format


def _field(value: bytes) -> tuple[bytes, bytes]:
    return _length(len(value)), value


def _raw(value: np.ndarray[Any, Any]) -> tuple[Any, np.ndarray[Any, Any]]:
    """Bytes as a field: (size,) uint8, those of all rows, or (n, size), those of each."""
    return ("u1", value.shape[-1:]), value


def _laid_out(count: int, fields: Sequence[tuple[Any, Any]], *, more: int = 0) -> np.ndarray[Any, Any]:
    """The beginnings of `count` rows.

    fields: each a NumPy type, and the value of all rows or one for each; None is NULL. more: how many fields follow.
    """
    forms: list[Any] = [("fields", ">i2")]
    for at, (form, value) in enumerate(fields):
        forms.append((f"length {at}", ">i4"))
        if value is not None:
            forms.append((f"value {at}", *form) if isinstance(form, tuple) else (f"value {at}", form))
    rows = np.empty(count, np.dtype(forms))
    rows["fields"] = len(fields) + more
    for at, (_, value) in enumerate(fields):
        rows[f"length {at}"] = -1 if value is None else rows.dtype[f"value {at}"].itemsize
        if value is not None:
            rows[f"value {at}"] = value
    return rows


def _copy(session: Session, columns: str, rows: bytes, *, then: Sequence[Query] = (), ends: bool = False) -> None:
    """Append rows in the binary format; then run other statements, and commit where the transaction `ends` with them.

    All are one message of PostgreSQL's simple protocol, which goes on after the rows have come: psycopg's own `copy`
    waits for an answer to each. A statement that fails ends the transaction, as anywhere.
    """
    statement = f"COPY {columns} FROM STDIN (FORMAT BINARY)"
    with cursor(session, statement) as driver:
        connection = driver.connection
        begins = connection.info.transaction_status == TransactionStatus.IDLE
        written = [ClientCursor(connection).mogrify(query, parameters) for query, parameters in then]
        whole = "; ".join([*(["BEGIN"] if begins else []), statement, *written, *(["COMMIT"] if ends else [])])
        with connection.lock:
            connection.wait(_copying(connection.pgconn, whole.encode(), rows))


def _copying(server: Any, statement: bytes, rows: bytes) -> PQGen[None]:
    """Run statements of which one is a COPY into a table. server: libpq's connection."""
    server.send_query(statement)
    _check((yield from generators.execute(server)))
    for at in range(0, len(rows), _PART):
        yield from generators.copy_to(server, rows[at : at + _PART])
    while server.put_copy_end(None) == 0:
        yield Wait.W
    while server.flush() != 0:
        yield Wait.W
    _check((yield from generators.fetch_many(server)))


def _check(results: Sequence[Any]) -> None:
    """Raises the error that is among them."""
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
