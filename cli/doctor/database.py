"""Checks of the database, its tables, its live tower and its batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from packaging.version import Version
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from cli.errors import explain
from db.engine import connect
from db.schema import is_current

POSTGRES, PGVECTOR = 14, "0.8"

START_DATABASE = "start one with `twinvec up`, or set TWINVEC_DATABASE_URL"


@contextmanager
def reached(url: str | None) -> Iterator[tuple[list[Finding], Connection | None]]:
    """What is found of the database, and a connection to go on with; None where it cannot be used."""
    if url is None:
        yield [Finding("database", PROBLEM, "none is set and none runs in the home folder", START_DATABASE)], None
        return
    engine = connect(url)
    found: list[Finding] = []
    try:
        with ExitStack() as stack:
            connection = None
            try:
                connection = stack.enter_context(engine.connect())
                found += database(connection)
            except SQLAlchemyError as error:
                connection = None
                found.append(Finding("database", PROBLEM, explain(error)[0], START_DATABASE))
            usable = all(finding.level != PROBLEM for finding in found if finding.part in ("database", "tables"))
            yield found, connection if usable else None
    finally:
        engine.dispose()


def database(connection: Connection) -> Iterator[Finding]:
    """The server, its tables, and the tower that is live."""
    yield from _server(connection)
    if is_current(connection):
        yield Finding("tables", OK, "up to date")
        yield _tower(connection)
        yield from _batches(connection)
    else:
        yield Finding("tables", PROBLEM, "missing, or of another version", "run `twinvec migrate`")


def _server(connection: Connection) -> Iterator[Finding]:
    number = connection.execute(text("SHOW server_version_num")).scalar_one()
    release = connection.execute(text("SHOW server_version")).scalar_one().split()[0]
    query = text("""
        SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = 'vector'
    """)
    pgvector = connection.execute(query).scalar()
    found = f"PostgreSQL {release}, pgvector {pgvector or 'missing'}"
    if int(number) < POSTGRES * 10_000:
        yield Finding("database", PROBLEM, found, f"PostgreSQL {POSTGRES} or newer is needed")
    elif pgvector is None or Version(pgvector) < Version(PGVECTOR):
        advice = (
            f"install pgvector {PGVECTOR} or newer there, then run ALTER EXTENSION vector UPDATE or `twinvec migrate`"
        )
        yield Finding("database", PROBLEM, found, advice)
    else:
        yield Finding("database", OK, found)


def _tower(connection: Connection) -> Finding:
    live = connection.execute(text("SELECT id, fingerprint, recipe FROM towers WHERE status = 'live'")).one_or_none()
    if live is None:
        return Finding("tower", WARNING, "none is live: pictures are stored and wait", "train one with `twinvec train`")
    return Finding("tower", OK, f"tower {live.id} ({live.fingerprint[:12]}), recipe {live.recipe}")


def _batches(connection: Connection) -> Iterator[Finding]:
    """What workers fail at, again and again, and what they have given up."""
    failing = connection.execute(
        text("""
            SELECT count(*) AS batches, sum(cardinality(digits)) AS digits, max(message) AS message
            FROM batches WHERE state IN ('queued', 'leased') AND message IS NOT NULL
        """)
    ).one()
    if failing.batches:
        found = f"{failing.batches:,} with {failing.digits:,} digits failed when last tried: {failing.message}"
        yield Finding("batches", PROBLEM, found, "mend the cause: they are retried by themselves")
    dead = connection.execute(text("SELECT count(*) FROM batches WHERE state = 'dead'")).scalar_one()
    if dead:
        advice = "list them with `twinvec dead`, and try them again with `twinvec requeue`"
        yield Finding("batches", WARNING, f"{dead:,} dead: they are not tried any more", advice)
