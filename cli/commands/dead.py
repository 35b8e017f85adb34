"""`twinvec dead` and `requeue`: batches that killed whoever held them, and another try when the cause is gone."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from cli.connect import client
from cli.display.console import err, out, print_json, table
from cli.errors import CommandError
from cli.exit_codes import USAGE
from twinvec_client import TwinvecError

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def dead(
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many.")] = 100, json: Json = False
) -> None:
    """List the batches that nobody tries any more, newest first: why, after how many attempts, and who held them last.

    What they hold is stored, and listed by `twinvec failures`. Nothing is lost: `twinvec requeue` tries it again.

    \b
    Example:
      twinvec dead
    """
    found = client().dead_batches(limit=limit)
    if json:
        print_json(found)
        return
    if not found:
        err.print("no dead batch")
        return
    numbers = ("digits", "attempts")
    rows = table("batch", "job", "kind", *numbers, "last worker", "why", right=numbers, fold=("last worker", "why"))
    for batch in found:
        who, why = escape(batch.worker or ""), escape(batch.message or "")
        rows.add_row(str(batch.id), batch.job, batch.kind, f"{batch.digits:,}", str(batch.attempts), who, why)
    out.print(rows)


def requeue(
    batches: Annotated[list[int] | None, typer.Argument(metavar="[BATCH]...", help="As `dead` lists them.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Every dead batch.")] = False,
) -> None:
    """Try dead batches again, once what killed them is gone; their jobs go on until they are done.

    \b
    Example:
      twinvec requeue 1742
      twinvec requeue --all
    """
    if bool(batches) == all:
        raise CommandError("name the batches, or say --all", USAGE)
    twinvec = client()
    left = 0
    for batch in batches or [batch.id for batch in twinvec.dead_batches(limit=1000)]:
        try:
            job = twinvec.requeue(batch)
        except TwinvecError as error:
            err.print(f"batch {batch}: {error}", markup=False)
            left += 1
        else:
            out.print(f"batch {batch} is queued again, of job {job.id}", highlight=False)
    if left:
        raise CommandError(f"{left} could not be queued again")
