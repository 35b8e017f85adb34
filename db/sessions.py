"""Ends sessions of ours whose client has fallen silent in the middle of a statement. It must not know their work."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

MARGIN = 5.0  # seconds that a client gets beyond the limit after which it gives up by itself

_END_SILENT = text("""
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'twinvec' AND datname = current_database() AND usename = current_user
      AND pid <> pg_backend_pid() AND state = 'active' AND wait_event_type = 'Client'
      AND query_start < clock_timestamp() - make_interval(secs => :seconds)
""")


def end_silent(session: Session, *, statement_limit: float) -> int:
    """End those that have waited for their client, within one statement, for longer than it waits itself; how many.

    A COPY waits for rows, and a result to be taken, without regard to the server's limits on statements and
    transactions: both would break the protocol in its middle. While something between the two keeps such a
    connection open, its locks would keep the batch that the client has lost from everybody else.

    statement_limit: seconds after which a client gives up.
    """
    return int(session.execute(_END_SILENT, {"seconds": statement_limit + MARGIN}).scalar_one())
