"""What a database must be before a process works on it, as records. It prints nothing and changes nothing.

`twinvec doctor` and the commands that start something judge by these same functions, so that they cannot disagree.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from packaging.version import Version
from sqlalchemy import Connection, QueuePool, text

from db.engine import connect
from db.faults import Fault, Severity, clock_faults, refusals
from db.schema import is_later, revisions

POSTGRES = 14  # the oldest release that will do
PGVECTOR = "0.8.4"  # older: a buffer overflow (CVE-2026-3172) and damage to HNSW indexes by vacuum

TABLES = ("towers", "digits", "embeddings", "jobs", "batches", "failures", "judgements", "checkpoints", "learnt")
WATCHED = ("canaries", "drift", "asked_queries")
STEERED = ("lane_pauses", "actions")
RIGHTS = {  # that a worker needs; docs/security.md grants them
    "SELECT": (*TABLES, *WATCHED, *STEERED, "inbox", "installation", "alembic_version"),
    "INSERT": (*TABLES, *WATCHED, *STEERED),
    "UPDATE": (
        *("towers", "digits", "jobs", "batches", "failures", "judgements", "checkpoints", "drift", "inbox"),
        *STEERED,
    ),
    "UPDATE (label)": ("embeddings",),
    "DELETE": (
        *("digits", "embeddings", "jobs", "batches", "failures", "judgements", "checkpoints", "learnt", "inbox"),
        "actions",
        *WATCHED,
    ),
    "USAGE": ("digits_id_seq", "judgements_id_seq"),
    "EXECUTE": ("create_partition(integer)", "drop_partition(integer)"),
}

_SERVER = text("""
    SELECT current_setting('server_version_num')::int AS version,
           split_part(current_setting('server_version'), ' ', 1) AS release,
           current_setting('server_encoding') AS encoding,
           pg_is_in_recovery() AS standby,
           current_setting('lock_timeout') <> '0'
               OR current_setting('idle_in_transaction_session_timeout') <> '0' AS limited,
           current_setting('transaction_read_only') = 'on' AS read_only,
           current_database() AS database,
           current_user AS role,
           (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
           (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS pgvector_there,
           current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0) AS connections,
           CASE WHEN NOT rolsuper THEN nullif(rolconnlimit, -1) END AS role_limit,
           CASE WHEN NOT rolsuper THEN nullif(datconnlimit, -1) END AS database_limit,
           extract(epoch FROM clock_timestamp())::float8 AS clock
    FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
""")
_CONNECTED = text("""
    SELECT count(*) FILTER (WHERE pid <> pg_backend_pid() AND own) AS own, count(*) FILTER (WHERE NOT own) AS others
    FROM pg_stat_activity, LATERAL (SELECT datname = current_database() AND application_name = 'twinvec') AS mine(own)
    WHERE datid IS NOT NULL AND usesysid IS NOT NULL
""")
_LACKING = text("""
    SELECT privilege, array_agg(name ORDER BY name) AS names
    FROM unnest(CAST(:privileges AS text[]), CAST(:names AS text[])) AS needed(privilege, name)
    WHERE NOT CASE privilege
        WHEN 'EXECUTE' THEN has_function_privilege(to_regprocedure(name), privilege)
        WHEN 'UPDATE (label)' THEN has_column_privilege(
            to_regclass(name),
            (SELECT attnum FROM pg_attribute WHERE attrelid = to_regclass(name) AND attname = 'label'),
            'UPDATE'
        )
        WHEN 'USAGE' THEN has_sequence_privilege(to_regclass(name), privilege)
        ELSE has_table_privilege(to_regclass(name), privilege)
    END
    GROUP BY privilege ORDER BY privilege
""")
_MAY_ASK = text("SELECT has_table_privilege(to_regclass('alembic_version'), 'SELECT')")
_CLOSED_SCHEMAS = text("""
    SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'batches' AND relkind = 'r' AND NOT has_schema_privilege(relnamespace, 'USAGE')
""")


@dataclass(frozen=True)
class Server:
    """What a database server says of itself, to the role and in the database that we are connected with."""

    version: int  # as PostgreSQL counts: 180001
    release: str
    encoding: str
    standby: bool
    limited: bool  # whether it has heard of the limits that `db.engine.connect` sets
    read_only: bool
    database: str
    role: str
    pgvector: str | None  # the release in this database
    pgvector_there: str | None  # the release that the server would create or update to
    connections: int  # that all roles may have together, but for what is kept for superusers
    limit: int | None  # what the role or the database may have of them
    own: int  # connections of Twinvec to this database, without the one that asks
    others: int  # all other clients' connections
    pool: int  # connections that a process of ours keeps, at most
    ahead: float  # seconds its clock is ahead of this machine's


def database_faults(url: str, *, processes: int, joining: bool = False, tables: bool = True) -> list[Fault]:
    """What is wrong with the database for so many processes; see `server_faults`. Raises SQLAlchemyError.

    tables: whether they must be there and of this version, and the role's rights with them.
    """
    engine = connect(url)
    try:
        with engine.connect() as connection:
            found = list(server_faults(look(connection), processes=processes, joining=joining))
            if not refusals(found):
                found += table_faults(connection) if tables else version_faults(connection, migrating=True)
            return found
    finally:
        engine.dispose()


def look(connection: Connection) -> Server:
    """Ask the server. It takes a few milliseconds."""
    asked = time.time()
    found = connection.execute(_SERVER).one()
    here = (asked + time.time()) / 2
    connected = connection.execute(_CONNECTED).one()
    limits = [limit for limit in (found.role_limit, found.database_limit) if limit is not None]
    return Server(
        version=found.version,
        release=found.release,
        encoding=found.encoding,
        standby=found.standby,
        limited=found.limited,
        read_only=found.read_only,
        database=found.database,
        role=found.role,
        pgvector=found.pgvector,
        pgvector_there=found.pgvector_there,
        connections=found.connections,
        limit=min(limits, default=None),
        own=connected.own,
        others=connected.others,
        pool=cast(QueuePool, connection.engine.pool).size(),
        ahead=found.clock - here,
    )


def server_faults(server: Server, *, processes: int, joining: bool = False) -> Iterator[Fault]:
    """What is wrong with a server for so many processes of ours.

    joining: they come beside those of ours that are connected already; else these are among them.
    """
    if server.version < POSTGRES * 10_000:
        yield Fault(f"PostgreSQL {server.release} is too old", f"use PostgreSQL {POSTGRES} or newer")
    if server.standby:
        advice = "set TWINVEC_DATABASE_URL to the primary, or promote this server"
        yield Fault("the database server is a standby, which cannot be written to", advice)
    elif server.read_only:
        advice = (
            "set default_transaction_read_only to off, or TWINVEC_DATABASE_URL to a database that can be written to"
        )
        yield Fault(f"the database {server.database} is read-only", advice)
    if server.encoding != "UTF8":
        advice = "make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and set TWINVEC_DATABASE_URL"
        yield Fault(f"the database {server.database} has the encoding {server.encoding} and not UTF8", advice)
    if not server.limited:
        advice = "add pooler=transaction to TWINVEC_DATABASE_URL; without it statements fail at random"
        yield Fault("the options of a connection do not reach the database server, as behind a pooler", advice)
    yield from _pgvector(server)
    yield from _connections(server, processes, joining)
    yield from clock_faults("the database's", server.ahead)


def table_faults(connection: Connection) -> Iterator[Fault]:
    """Whether the tables are there, of this version, and the role may do with them what a worker does."""
    role = connection.execute(text("SELECT current_user")).scalar_one()
    if connection.execute(text("SELECT to_regclass('batches')")).scalar() is None:
        closed = connection.execute(_CLOSED_SCHEMAS).scalars().all()
        if closed:
            advice = f"as its owner, GRANT USAGE ON SCHEMA {closed[0]} TO {role}"
            yield Fault(f"the role {role} may not use the schema {closed[0]}", advice)
        else:
            yield Fault("the database has no Twinvec tables yet", "run `twinvec migrate`")
        return
    version = list(version_faults(connection))
    if version:
        yield from version
        return
    needed = [(privilege, name) for privilege, names in RIGHTS.items() for name in names]
    parameters = {"privileges": [privilege for privilege, _ in needed], "names": [name for _, name in needed]}
    lacking = [f"{row.privilege} on {', '.join(row.names)}" for row in connection.execute(_LACKING, parameters)]
    if lacking:
        advice = "as the tables' owner, grant what docs/security.md lists under Database roles"
        yield Fault(f"the role {role} lacks {'; '.join(lacking)}", advice)


def version_faults(connection: Connection, *, migrating: bool = False) -> Iterator[Fault]:
    """Whether the tables, if there are any, are those of this version; nothing is found where we may not ask.

    migrating: whether those of an earlier version will do.
    """
    if not connection.execute(_MAY_ASK).scalar():
        return
    current, needed = revisions(connection)
    if current is None or current == needed:
        return
    if is_later(current):
        found = f"the database's tables are of a later version ({current}; this one knows {needed})"
        yield Fault(found, "start that version, or restore the backup that was made before it")
    elif not migrating:
        found = f"the database's tables are of an earlier version ({current}; this one needs {needed})"
        yield Fault(found, "run `twinvec migrate`")


def _pgvector(server: Server) -> Iterator[Fault]:
    there = server.pgvector_there
    if server.pgvector is not None and Version(server.pgvector) >= Version(PGVECTOR):
        return
    if there is None:
        missing = "the PostgreSQL server has no pgvector"
        yield Fault(missing, f"install pgvector {PGVECTOR} or newer there, then run `twinvec migrate`")
    elif Version(there) < Version(PGVECTOR):
        update = "run `twinvec migrate`" if server.pgvector is None else "run ALTER EXTENSION vector UPDATE"
        found = f"pgvector {server.pgvector or there} is too old"
        yield Fault(found, f"install pgvector {PGVECTOR} or newer on the server, then {update}")
    elif server.pgvector is not None:
        found = f"the database {server.database} has pgvector {server.pgvector}, which is too old"
        yield Fault(found, f"run ALTER EXTENSION vector UPDATE in it: the server has {there}")


def _connections(server: Server, processes: int, joining: bool) -> Iterator[Fault]:
    need = processes * server.pool
    asked = f"{processes} {'process needs' if processes == 1 else 'processes need'} {need} ({server.pool} each)"
    advice = "raise max_connections or the limit of the role or database"
    admitted = server.connections if server.limit is None else min(server.limit, server.connections)
    if need > admitted:
        found = f"the database admits {admitted} connections, and {asked}"
        yield Fault(found, f"{advice} to {need} or more, or run fewer processes")
        return
    ours = server.own + need if joining else max(server.own, need)
    if server.others + ours > server.connections:
        found = (
            f"the database admits {server.connections} connections, of which others hold {server.others} and "
            f"Twinvec {server.own}, and {asked}"
        )
        yield Fault(found, f"{advice}, or run fewer processes", Severity.WARNING)
