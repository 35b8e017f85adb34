"""`twinvec down`: stops a stack, also one whose supervisor was killed."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.display.console import err, foreign, out, show
from cli.options import Json
from local.detached import stop_detached
from local.errors import GRACE
from worker.settings import Settings


def down(
    now: Annotated[bool, typer.Option("--now", help="Do not wait for what the workers are doing.")] = False,
    json: Json = False,
) -> None:
    """Stop what `up` or `demo` started in TWINVEC_HOME; the data stays.

    Workers finish what they are doing, for 45 seconds at most; what they do not finish is done after the next `up`.

    \b
    Example:
      twinvec down
    """
    home = Settings.tolerant()[0].home  # whatever else is set, and however wrong
    with err.status("stopping workers, then servers"):
        stopped = stop_detached(home, grace=0 if now else GRACE)
    said = f"stopped; the data stays in {home}" if stopped else f"nothing runs in {home}"
    show({"home": home, "stopped": stopped}, lambda _answer: out.print(foreign(said)), as_json=json)
