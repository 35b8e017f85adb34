"""What the ledger stores beside digits and vectors, how long it is kept, and whether pruning keeps up."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from cli.doctor.finding import OK, WARNING, Finding
from cli.errors import explain
from db.queue.retention import Keep, overdue
from worker.settings import Settings

COUNTED = 1_000_000  # rows of a table up to which they are counted; of more, the statistics tell about how many
LATE = 1.0  # days after which a job that should be gone is worth a warning


def storage(connection: Connection | None, settings: Settings) -> Iterator[Finding]:
    """Nothing without a connection to a database of this version: `database` says so."""
    if connection is None:
        return
    with Session(connection) as session:
        try:
            yield Finding("storage", OK, _stored(session))
            yield Finding("retention", OK, _kept(settings))
            yield from _late(session, settings)
        except SQLAlchemyError as error:
            yield Finding("storage", WARNING, f"could not be counted: {explain(error)[0]}")


def _stored(session: Session) -> str:
    told = []
    for table in ("jobs", "batches", "failures"):
        size = session.execute(text(f"SELECT pg_total_relation_size('{table}')")).scalar_one()
        told.append(f"{_count(session, table)} {table} ({_megabytes(size)})")
    oldest = session.execute(text("SELECT min(created_at)::date::text FROM jobs")).scalar()
    if oldest is not None:
        told[0] = told[0].replace(")", f", the oldest of {oldest})")
    query = "SELECT count(*), coalesce(sum(octet_length(file)), 0) FROM towers WHERE file IS NOT NULL"
    towers, size = session.execute(text(query)).one()
    return f"{', '.join(told)}, files of {towers} towers ({_megabytes(size)})"


def _count(session: Session, table: str) -> str:
    guess = session.execute(text(f"SELECT reltuples FROM pg_class WHERE oid = '{table}'::regclass")).scalar_one()
    if guess > COUNTED:
        return f"about {guess:,.0f}"
    return f"{session.execute(text(f'SELECT count(*) FROM {table}')).scalar_one():,}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _kept(settings: Settings) -> str:
    return (
        f"days kept: jobs {settings.keep_jobs:g}, with dead batches {settings.keep_dead:g}, with a callback not called "
        f"{settings.keep_callbacks:g}, pictures of failures {settings.keep_pictures:g}, files of retired "
        f"towers {settings.keep_towers:g}; about {settings.keep_most_jobs:,} jobs at most"
    )


def _late(session: Session, settings: Settings) -> Iterator[Finding]:
    rights = "SELECT has_table_privilege('jobs', 'INSERT'), has_table_privilege('jobs', 'DELETE')"
    writes, deletes = session.execute(text(rights)).one()
    if writes and not deletes:
        advice = "grant the rights of docs/security.md again"
        yield Finding("retention", WARNING, "the database's user may not delete jobs: nothing is pruned", advice)
    keep = Keep(jobs=settings.keep_jobs, dead=settings.keep_dead, callbacks=settings.keep_callbacks)
    if late := overdue(session, keep, by=LATE):
        advice = "see that `twinvec beat` runs and a worker serves `control`, and look for `prune` in their logs"
        yield Finding("retention", WARNING, f"{late:,} jobs or more should have been pruned a day ago", advice)
