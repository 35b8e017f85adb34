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


def is_current(connection: Connection) -> bool:
    """Whether the schema is the one this version needs."""
    scripts = ScriptDirectory(str(_MIGRATIONS))
    return MigrationContext.configure(connection).get_current_revision() == scripts.get_current_head()
