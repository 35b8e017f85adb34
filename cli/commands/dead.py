"""`twinvec dead` and `requeue`: batches that crashed their worker too often, and another try once that is mended."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, print_json, show, table
from cli.errors import CommandError
from cli.exit_codes import USAGE
from cli.options import Json, Limit
from twinvec_client import DeadBatch, TwinvecError


def dead(limit: Limit = 100, json: Json = False) -> None:
    """List the batches that are not tried any more, newest first: why, after how many attempts, and on which worker.

    What they hold is stored, and listed by `twinvec failures`. Nothing is lost: `twinvec requeue` tries it again.

    \b
    Example:
      twinvec dead
    """
    show(client().dead_batches(limit=limit), _list, as_json=json)


def _list(found: list[DeadBatch]) -> None:
    if not found:
        err.print("no dead batch")
        return
    numbers = ("digits", "attempts")
    rows = table("batch", "job", "kind", *numbers, "last worker", "why", right=numbers, fold=("last worker", "why"))
    for batch in found:
        who, why = foreign(batch.worker or ""), foreign(batch.message or "")
        rows.add_row(str(batch.id), batch.job, batch.kind, f"{batch.digits:,}", str(batch.attempts), who, why)
    out.print(rows)


def requeue(
    batches: Annotated[list[int] | None, typer.Argument(metavar="BATCH", help="As `dead` lists them.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Every dead batch.")] = False,
    json: Json = False,
) -> None:
    """Try dead batches again, once what killed them is gone; their jobs go on until they are done.

    \b
    Example:
      twinvec requeue 1742
      twinvec requeue --all
    """
    if bool(batches) == all:
        raise CommandError("name the batches, or say --all", USAGE)
    tv = client()
    tried = []
    for batch in batches or [batch.id for batch in tv.dead_batches(limit=1000)]:
        try:
            job, fault = tv.requeue(batch).id, None
        except TwinvecError as error:
            job, fault = None, str(error)
        tried.append({"batch": batch, "job": job, "error": fault})
        if not json:
            _tell(batch, job, fault)
    if json:
        print_json(tried)
    left = sum(each["error"] is not None for each in tried)
    if left:
        raise CommandError(f"{left} could not be queued again")


def _tell(batch: int, job: str | None, fault: str | None) -> None:
    if fault is None:
        out.print(f"batch {batch} is queued again, of job {job}", highlight=False)
    else:
        err.print(f"batch {batch}: {foreign(fault)}")
