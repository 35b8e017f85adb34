"""`twinvec backfill`: how far stored digits are embedded under a tower that lacks them, or what a new one takes."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import key_values, out, show, table
from cli.options import Json
from twinvec_client import Backfills


def backfill(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take under a new tower instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Show how far stored digits are embedded under the candidate, or under another tower that lacks some.

    A backfill begins by itself when a tower was trained. New digits come first meanwhile: it gets the share of the time
    that TWINVEC_BACKFILL_SHARE says while they wait, and all of it otherwise.

    \b
    Example:
      twinvec backfill
      twinvec backfill --dry-run
    """
    show(client().backfill(), _estimate if dry_run else _running, as_json=json)


def _running(found: Backfills) -> None:
    if not found.running:
        out.print("no backfill goes on; `twinvec backfill --dry-run` says what one would take")
        return
    numbers = ("tower", "done", "of", "digits/s", "left")
    rows = table("job", *numbers, right=numbers)
    for each in found.running:
        rate = "" if each.rate is None else f"{each.rate:,.0f}"
        left = "" if each.remaining is None else _duration(each.remaining)
        rows.add_row(each.job, str(each.tower), f"{each.done:,}", f"{each.total:,}", rate, left)
    out.print(rows)


def _estimate(found: Backfills) -> None:
    would = found.estimate
    lasting = "not known: no large batch was embedded lately"
    if would.seconds is not None:
        work = "backfill" if would.measured_on == "backfill" else "bulk job"
        lasting = f"{_duration(would.seconds)}, at the rate of the last {work}, if nothing else waits"
    out.print(key_values(digits=f"{would.digits:,}", time=lasting, disk=f"{would.bytes / 1e6:,.0f} MB"))


def _duration(seconds: float) -> str:
    minutes = round(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {round(seconds) % 60} s"
