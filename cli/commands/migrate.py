"""`twinvec migrate`: the one command that changes tables, and who may do what with them."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.display.console import masked, out, show
from cli.options import Json
from cli.starting import warn_of
from db.engine import connect
from db.grants import grant
from db.preflight import database_faults
from db.schema import migrate as bring_up_to_date
from worker.settings import Settings


def migrate(
    worker: Annotated[str | None, typer.Option(metavar="ROLE", help="Give this role what workers need.")] = None,
    reader: Annotated[str | None, typer.Option(metavar="ROLE", help="Let this role read all tables.")] = None,
    application: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Let this role leave pictures in transactions of its own.")
    ] = None,
    json: Json = False,
) -> None:
    """Create or upgrade the database's tables; a database that is up to date is left as it is.

    The roles named exist already, and get the rights that docs/security.md lists; run it as the tables' owner.
    `twinvec up` migrates by itself.

    \b
    Example:
      TWINVEC_DATABASE_URL=postgresql://localhost/twinvec twinvec migrate
      twinvec migrate --worker twinvec_worker --reader twinvec_reader
    """
    url = Settings().require_database()
    warn_of(database_faults(url, processes=1, tables=False))
    engine = connect(url)
    try:
        bring_up_to_date(engine)
        with engine.begin() as connection:
            grant(connection, worker=worker, reader=reader, application=application)
    finally:
        engine.dispose()
    done = {"database": masked(url), "tables": "up to date"}
    show(done, lambda _done: out.print("the database's tables are up to date"), as_json=json)
