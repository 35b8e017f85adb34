"""`twinvec migrate`: the one command that changes tables."""

from __future__ import annotations

from cli.display.console import out
from cli.errors import CommandError
from db.engine import connect
from db.schema import migrate as bring_up_to_date
from worker.settings import Settings


def migrate() -> None:
    """Create or upgrade the database's tables; a database that is up to date is left as it is.

    `twinvec up` does this itself.

    \b
    Example:
      TWINVEC_DATABASE_URL=postgresql://localhost/twinvec twinvec migrate
    """
    url = Settings().database()
    if url is None:
        raise CommandError("no database: set TWINVEC_DATABASE_URL, or start the embedded one with `twinvec up`")
    bring_up_to_date(connect(url))
    out.print("the database's tables are up to date")
