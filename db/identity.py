"""Which ledger a database holds. It must not know whose lanes are whose."""

from __future__ import annotations

from sqlalchemy import Connection, text


def installation(connection: Connection) -> str:
    """Which ledger this database holds: the id that its first migration gave it; a copy has the same.

    Raises SQLAlchemyError where the tables are not there, or of a version before.
    """
    return str(connection.execute(text("SELECT id FROM installation")).scalar_one())
