"""`twinvec doctor`: whether the machine and the installation are well, and what to do where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import redis
import typer
from rich.markup import escape

from cli import exit_codes
from cli.display.console import err, out, show, table
from cli.doctor import broker, database, lanes, machine, storage
from cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from cli.options import Json
from worker.settings import OpenBroker, Settings

_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


def doctor(json: Json = False) -> None:
    """Check the machine and the installation, and say what to do.

    Looked at are packages, backend and device, the home folder, broker, workers, database, tables, the live tower, what
    is stored and how long it is kept.

    Exit status: 0 all is well or only warned of, 1 there is a problem.

    \b
    Example:
      twinvec doctor
    """
    found = list(examine(Settings()))
    show(found, _list, as_json=json)
    raise typer.Exit(exit_codes.REFUSED if _problems(found) else 0)


def _list(found: list[Finding]) -> None:
    rows = table("", "part", "found", fold=("found",))
    for finding in found:
        advice = f"\n[dim]->[/] {escape(finding.advice)}" if finding.advice else ""
        colour = _COLOURS[finding.level]
        rows.add_row(f"[{colour}]{finding.level}[/]", finding.part, escape(finding.found) + advice)
    out.print(rows)
    problems = _problems(found)
    err.print(f"{problems} problem{'s' * (problems != 1)}" if problems else "no problem")


def _problems(found: list[Finding]) -> int:
    return sum(finding.level == PROBLEM for finding in found)


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in order; the backend loads meanwhile."""
    backend = machine.Backend()
    yield machine.python()
    yield from machine.packages()
    yield machine.home(settings.home)
    try:
        settings.guarded_broker()
    except OpenBroker as error:
        yield Finding("broker", PROBLEM, str(error))
    yield from broker.broker(settings.broker())
    with database.reached(settings.database()) as (found, connection):
        yield from found
        yield from storage.storage(connection, settings)
        with suppress(redis.RedisError, OSError, ValueError):  # the broker's own finding says so
            yield from lanes.findings(lanes.lanes(settings.broker()), connection)
    yield from backend.findings()
