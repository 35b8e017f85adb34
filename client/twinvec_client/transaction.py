"""Leave pictures in Twinvec's database, in a transaction of the application's own: all of it happens, or nothing.

It knows one statement, and no database driver: the application brings its session or connection.
"""

from __future__ import annotations

import re
from typing import Any

from twinvec_client.callback import Callback
from twinvec_client.chunks import Attributes, JobOptions, Labels, chunks
from twinvec_client.contract.limits import MAX_COLLECTION_CHARS, MAX_PRIORITY, is_name
from twinvec_client.delivery import new_job
from twinvec_client.errors import InvalidRequest
from twinvec_client.fields import read_integer


def submit(
    connection: Any,
    pictures: Any,
    *,
    collection: str = "default",
    labels: Labels = None,
    attributes: Attributes = None,
    idempotency_key: str | None = None,
    normalise: bool = True,
    on_finish: Callback | None = None,
    priority: int = 1,
    schema: str = "public",
) -> str:
    """Write a job's pictures into Twinvec's database, in the transaction that `connection` is in; the job's id.

    Nothing is sent to a broker. Workers find the pictures some seconds after the commit and take them in as they do
    those of `Twinvec.embed`, whose arguments the others are; `Twinvec(...).job(id)` follows them. After a rollback
    there is no job. Under the same idempotency key the same pictures are the same job; with others they are left out,
    and the first ones stay.

    connection: a `Session` or `Connection` of SQLAlchemy, a connection of psycopg 3 or 2, or Django's `connection`.
    With SQLAlchemy's asyncio: `await session.run_sync(submit, pictures)`. schema: where Twinvec's tables are. The role
    needs `INSERT` on the table `inbox` there and nothing else (docs/security.md).
    Raises InvalidRequest, and what the database's driver raises.
    """
    if not is_name(collection, MAX_COLLECTION_CHARS):
        raise InvalidRequest(f"collection {collection!r:.80}: a string of 1 to {MAX_COLLECTION_CHARS} characters")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", schema):
        raise InvalidRequest(f"schema {schema!r:.80} is not a plain name")
    options = JobOptions(
        job=new_job(idempotency_key, collection),
        collection=str.__str__(collection),
        labels=labels,
        attributes=attributes,
        normalise=normalise,
        callback=on_finish,
        priority=read_integer("priority", priority, MAX_PRIORITY),
    )
    statement = f'INSERT INTO "{schema}".inbox (job, message) VALUES (%s::uuid, %s)'
    for chunk in chunks(pictures, options):
        _execute(connection, statement, (options.job, chunk.pack()))
    return options.job


def _execute(connection: Any, statement: str, parameters: tuple[str, bytes]) -> None:
    if callable(connect := getattr(connection, "connection", None)):  # a session of SQLAlchemy's
        connection = connect()
    if hasattr(connection, "exec_driver_sql"):
        connection.exec_driver_sql(statement, parameters)
    elif hasattr(connection, "cursor"):
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
    else:
        raise InvalidRequest(f"a {type(connection).__name__} is no session or connection of a database")
