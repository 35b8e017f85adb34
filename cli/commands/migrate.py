"""`twinvec migrate`: the one command that changes tables."""

from __future__ import annotations

from cli.display.console import masked, out, show
from cli.options import Json
from cli.starting import warn_of
from db.engine import connect
from db.preflight import database_faults
from db.schema import migrate as bring_up_to_date
from worker.settings import Settings


def migrate(json: Json = False) -> None:
    """Create or upgrade the database's tables; a database that is up to date is left as it is.

    `twinvec up` does this itself.

    \b
    Example:
      TWINVEC_DATABASE_URL=postgresql://localhost/twinvec twinvec migrate
    """
    url = Settings().require_database()
    warn_of(database_faults(url, processes=1, tables=False))
    bring_up_to_date(connect(url))
    done = {"database": masked(url), "tables": "up to date"}
    show(done, lambda _done: out.print("the database's tables are up to date"), as_json=json)
