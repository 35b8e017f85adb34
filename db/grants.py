"""Gives roles their rights on the tables. It must not make a role, nor know what the tables hold."""

from __future__ import annotations

from sqlalchemy import Connection, text

from db.preflight import RIGHTS


def grant(
    connection: Connection, *, worker: str | None = None, reader: str | None = None, application: str | None = None
) -> None:
    """Give roles, which exist, their rights on the tables of this version, as docs/security.md lists them.

    The connection's role owns the tables. What was given before and a role needs no more, it keeps.
    """
    quoted = connection.dialect.identifier_preparer.quote_identifier
    for role in (worker, reader):
        if role is not None:
            connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {quoted(role)}"))
    if worker is not None:
        for privilege, names in RIGHTS.items():
            kind = {"USAGE": "SEQUENCE", "EXECUTE": "FUNCTION"}.get(privilege, "TABLE")
            connection.execute(text(f"GRANT {privilege} ON {kind} {', '.join(names)} TO {quoted(worker)}"))
    if application is not None:
        connection.execute(text(f"GRANT INSERT (job, message) ON inbox TO {quoted(application)}"))
