"""Digits into the database row by row, as psycopg's documentation has it and as one would write it without Twinvec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Session

from db.bulk import cursor

COLUMNS = {
    "id": "int8",
    "key": "text",
    "collection": "text",
    "pixels": "bytea",
    "sha256": "bytea",
    "label": "int4",
    "attributes": "jsonb",
    "job": "uuid",
}


def copy_digits(session: Session, rows: Iterable[tuple[Any, ...]]) -> None:
    """Append rows of COLUMNS."""
    statement = f"COPY digits ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
    with cursor(session, statement) as driver, driver.copy(statement) as copy:
        copy.set_types(list(COLUMNS.values()))
        for row in rows:
            copy.write_row(row)
