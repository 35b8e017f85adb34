"""Thousands of rows at once, past SQLAlchemy's row objects and in PostgreSQL's binary format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session


def fetch(session: Session, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query with `%s` parameters, in the session's transaction. Raises what SQLAlchemy would."""
    with cursor(session, query, binary=True) as found:
        return list(found.execute(query, parameters).fetchall())


def within(column: str, ids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
    """A condition, and its parameters, that holds for these ids, ascending and each once.

    A range where they follow each other, as those of a chunk do: an index is then entered once, not for each of them.
    """
    if ids and ids[-1] - ids[0] + 1 == len(ids):
        return f"{column} BETWEEN %s AND %s", (ids[0], ids[-1])
    return f"{column} = ANY(%s::bigint[])", ("{" + ",".join(map(str, ids)) + "}",)


@contextmanager
def cursor(session: Session, statement: str, *, binary: bool = False) -> Iterator[Any]:
    """psycopg's own cursor on the session's connection. Raises what SQLAlchemy would raise of any other statement."""
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
