"""Checks of the database, its tables, its live tower and its batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from cli.display.neighbours import looked_at
from cli.doctor.finding import OK, PROBLEM, WARNING, Finding, findings
from cli.errors import explain
from db.engine import connect
from db.preflight import look, server_faults, table_faults

SLOW = 0.2  # of the small vectors: a look-up that reads so many gains little over one that compares every vector
START_DATABASE = "start one with `twinvec up`, or set TWINVEC_DATABASE_URL"


@contextmanager
def reached(url: str | None, *, processes: int = 4) -> Iterator[tuple[list[Finding], Connection | None]]:
    """What is found of the database, and a connection to go on with; None where it cannot be used.

    processes: of this installation that work on it.
    """
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
                found += database(connection, processes)
            except SQLAlchemyError as error:
                connection = None
                found.append(Finding("database", PROBLEM, explain(error)[0], START_DATABASE))
            usable = all(finding.level != PROBLEM for finding in found if finding.part in ("database", "tables"))
            yield found, connection if usable else None
    finally:
        engine.dispose()


def database(connection: Connection, processes: int) -> Iterator[Finding]:
    """The server, its tables, and the tower that is live."""
    yield from _server(connection, processes)
    unfit = list(findings("tables", table_faults(connection)))
    if unfit:
        yield from unfit
    else:
        yield Finding("tables", OK, "up to date")
        yield _tower(connection)
        yield from _batches(connection)
        yield from _inbox(connection)
        yield from _callbacks(connection)


def _server(connection: Connection, processes: int) -> Iterator[Finding]:
    server = look(connection)
    extension = f" with pgvector {server.pgvector}" if server.pgvector else ""
    held = f"{server.own + server.others} of {server.connections} connections are in use"
    need = f"{processes} processes keep up to {processes * server.pool}"
    found = f"PostgreSQL {server.release}{extension} answers; {held}, {need}"
    yield Finding("database", OK, found)
    yield from findings("database", server_faults(server, processes=processes))


def _tower(connection: Connection) -> Finding:
    query = "SELECT id, fingerprint, recipe, metrics -> 'search' AS search FROM towers WHERE status = 'live'"
    live = connection.execute(text(query)).one_or_none()
    if live is None:
        return Finding("tower", WARNING, "none is live: pictures are stored and wait", "train one with `twinvec train`")
    found = f"tower {live.id} ({live.fingerprint[:12]}), recipe {live.recipe}"
    if live.search is None:
        return Finding("tower", OK, found)
    found += f"; a look-up {looked_at(live.search)}"
    if live.search["read"] > SLOW * live.search["of"]:
        return Finding("tower", WARNING, f"{found}, so look-ups take longer the more is stored", "train another one")
    return Finding("tower", OK, found)


def _batches(connection: Connection) -> Iterator[Finding]:
    """What workers fail at, again and again, and what they have given up."""
    failing = connection.execute(
        text("""
            SELECT count(*) AS batches, sum(size) AS digits, max(message) AS message
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


def _inbox(connection: Connection) -> Iterator[Finding]:
    """Chunks that applications left in the database: those that nobody takes in, and those that are none."""
    left = connection.execute(
        text("""
            SELECT count(*) FILTER (WHERE refused IS NOT NULL) AS refused,
                min(job::text) FILTER (WHERE refused IS NOT NULL) AS job,
                min(refused) AS why,
                count(*) FILTER (WHERE refused IS NULL AND created_at < now() - interval '2 minutes') AS waiting,
                coalesce(bool_or(taken_until > now()), false) AS taken
            FROM inbox
        """)
    ).one()
    if left.waiting and not left.taken:
        found = f"{left.waiting:,} chunks that applications left in the database wait, and none is being taken in"
        yield Finding("inbox", PROBLEM, found, "start a worker on the lane `intake`, or look in its log")
    if left.refused:
        found = f"chunks of applications: {left.refused:,} refused, as of job {left.job}: {left.why}"
        advice = "mend their sender; then drop them: DELETE FROM inbox WHERE refused IS NOT NULL"
        yield Finding("inbox", WARNING, found, advice)


def _callbacks(connection: Connection) -> Iterator[Finding]:
    """Callbacks that could not be called: those that are tried again, and those that were given up."""
    for given_up, level, then in ((False, PROBLEM, "are tried again"), (True, WARNING, "were given up")):
        found = connection.execute(
            text("""
                SELECT count(*) AS jobs, min(id::text) AS job, min(callback ->> 'queue') AS queue,
                    min(callback_message) AS message
                FROM jobs WHERE callback IS NOT NULL AND called_back_at IS NULL AND pruned_at IS NULL
                    AND callback_message IS NOT NULL AND (callback_given_up_at IS NOT NULL) = :given_up
            """),
            {"given_up": given_up},
        ).one()
        if found.jobs:
            said = f"{found.jobs:,} could not be called and {then}, as for job {found.job} on {found.queue}"
            advice = "mend the queue, or the workers' right to write to it"
            if given_up:
                advice += "; these jobs' applications must ask for them: `twinvec job ID`"
            yield Finding("callbacks", level, f"{said}: {found.message}", advice)
