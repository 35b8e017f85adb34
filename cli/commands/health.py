"""`twinvec health`: whether this machine reaches what a worker needs."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import check_broker
from cli.display.console import key_values, masked, out, print_json
from cli.errors import CommandError
from db.engine import connect
from db.schema import is_current
from worker.settings import Settings


def health(
    json: Annotated[bool, typer.Option("--json", help="Print what was reached as one JSON object.")] = False,
) -> None:
    """Check that broker and database answer and that the tables are up to date; what a container's health check runs.

    \b
    Example:
      twinvec health && echo ready
    """
    settings = Settings()
    broker, database = settings.broker(), settings.database()
    check_broker(broker)
    if database is None:
        raise CommandError("no database: set TWINVEC_DATABASE_URL, or start the embedded one with `twinvec up`")
    engine = connect(database)
    try:
        with engine.connect() as connection:
            if not is_current(connection):
                raise CommandError("the database's tables are not up to date: run `twinvec migrate`")
    finally:
        engine.dispose()
    if json:
        print_json({"broker": masked(broker), "database": masked(database), "tables": "up to date"})
    else:
        out.print(key_values(broker=masked(broker), database=masked(database), tables="up to date"))
