"""Brings a database to the schema this version needs. It must not know what the tables hold."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from db.engine import without_limit

_MIGRATIONS = Path(__file__).parent / "migrations"
_ONE_AT_A_TIME = 7_360_001  # advisory lock


def migrate(engine: Engine, *, to: str = "head") -> None:
    """Create or upgrade the schema in one transaction; of several at once, the first does it and the others wait.

    to: the last migration that is run, by its number. Whether the server will do, `db.preflight` says beforehand.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        without_limit(connection)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def revisions(connection: Connection) -> tuple[str | None, str]:
    """The migration that the database is at, or None before the first, and the one that this version needs."""
    head = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    assert head is not None
    return MigrationContext.configure(connection).get_current_revision(), head


def is_current(connection: Connection) -> bool:
    """Whether the schema is the one this version needs."""
    current, head = revisions(connection)
    return current == head


def is_later(revision: str) -> bool:
    """Whether a migration is one that this version does not know."""
    return revision not in {each.revision for each in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
