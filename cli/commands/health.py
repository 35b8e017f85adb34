"""`twinvec health`: whether this machine reaches what a worker needs."""

from __future__ import annotations

from cli.connect import check_broker
from cli.display.console import key_values, masked, out, show
from cli.errors import CommandError
from cli.options import Json
from db.engine import connect
from db.preflight import look, server_faults, table_faults
from db.schema import is_current
from worker.preflight import broker_faults, insist
from worker.settings import Settings


def health(json: Json = False) -> None:
    """Check that broker and database answer and that the tables are up to date; what a container's health check runs.

    \b
    Example:
      twinvec health && echo ready
    """
    settings = Settings()
    broker = settings.broker()
    check_broker(broker)
    insist(broker_faults(broker))
    database = settings.require_database()
    engine = connect(database)
    try:
        with engine.connect() as connection:
            insist([*server_faults(look(connection), processes=1), *table_faults(connection)])
            if not is_current(connection):
                raise CommandError("the database's tables are not up to date: run `twinvec migrate`")
    finally:
        engine.dispose()
    reached = {"broker": masked(broker), "database": masked(database), "tables": "up to date"}
    show(reached, lambda reached: out.print(key_values(**reached)), as_json=json)
