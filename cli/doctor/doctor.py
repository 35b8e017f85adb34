"""`twinvec doctor`: whether the machine and the installation are well, and what to do where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import redis
import typer
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from cli import exit_codes, surroundings
from cli.display.console import err, foreign, out, show, table
from cli.doctor import beat, broker, database, lanes, machine, storage, towers
from cli.doctor.finding import OK, PROBLEM, WARNING, Finding, findings
from cli.doctor.installation import installation
from cli.errors import explain, wrong_settings
from cli.options import Json
from local.child import pool_processes
from worker.preflight import backend_faults
from worker.runfile import RunFileError
from worker.settings import OpenBroker, Settings

_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


def doctor(json: Json = False) -> None:
    """Check the machine and the installation, and say what to do.

    Looked at are the settings, packages, backend and device, the home folder, broker, workers, the scheduler, database,
    tables, the live tower, what is stored and how long it is kept; whatever a start would refuse is found as well.

    Exit status: 0 all is well or only warned of, 1 there is a problem.

    \b
    Example:
      twinvec doctor
    """
    found = list(examine(*Settings.tolerant()))
    show(found, _list, as_json=json)
    raise typer.Exit(exit_codes.REFUSED if _problems(found) else 0)


def _list(found: list[Finding]) -> None:
    rows = table("", "part", "found", fold=("found",))
    for finding in found:
        advice = f"\n[dim]->[/] {foreign(finding.advice)}" if finding.advice else ""
        colour = _COLOURS[finding.level]
        rows.add_row(f"[{colour}]{finding.level}[/]", finding.part, foreign(finding.found) + advice)
    out.print(rows)
    problems = _problems(found)
    err.print(f"{problems} problem{'s' * (problems != 1)}" if problems else "no problem")


def _problems(found: list[Finding]) -> int:
    return sum(finding.level == PROBLEM for finding in found)


def examine(settings: Settings, wrong: ValidationError | None = None) -> Iterator[Finding]:
    """Every check, in order; the backend loads meanwhile. wrong: settings that were left out, and why."""
    faults = list(backend_faults())
    backend = None if faults else machine.Backend()
    yield machine.python()
    yield from machine.packages()
    for sentence in wrong_settings(wrong) if wrong else []:
        yield Finding("settings", PROBLEM, sentence, "set it right: with it, nothing starts")
    if surroundings.unread:
        named = ", ".join(sorted(surroundings.unread))
        yield Finding("settings", WARNING, f"{named}: set, and not read", "say it in TWINVEC_DATABASE_URL")
    left_out = {each["loc"][0] for each in wrong.errors()} if wrong else set()
    yield from machine.home(settings.home)
    try:
        if "broker_url" not in left_out:
            yield from _broker(settings)
        if "database_url" not in left_out:
            with database.reached(settings.database(), processes=pool_processes(settings)) as (found, connection):
                yield from found
                yield from storage.storage(connection, settings)
                yield from towers.towers(connection, settings)
                if "broker_url" not in left_out:
                    yield from _lanes(settings, connection)
        elif "broker_url" not in left_out:
            yield from _lanes(settings, None)
    except RunFileError as error:
        yield Finding("home", PROBLEM, str(error))
    except SQLAlchemyError as error:  # it was reached, and is no longer
        yield Finding("database", PROBLEM, explain(error)[0])
    yield from findings("backend", faults) if backend is None else backend.findings()


def _broker(settings: Settings) -> Iterator[Finding]:
    try:
        settings.guarded_broker()
    except OpenBroker as error:
        yield Finding("broker", PROBLEM, str(error))
    yield from broker.broker(settings.broker(), settings.lane_prefix())


def _lanes(settings: Settings, connection: Connection | None) -> Iterator[Finding]:
    """Workers and schedulers; none are looked for on another installation's lanes."""
    if connection is not None:
        connection.rollback()  # a broker may be silent for longer than the server lets a transaction idle
    whose = [] if connection is None else list(installation(settings))
    yield from whose
    if any(finding.level == PROBLEM for finding in whose):
        return
    yield from beat.beat(settings.broker(), settings.lane_prefix())
    with suppress(redis.RedisError, OSError, ValueError):  # the broker's own finding says so
        probed = lanes.lanes(settings.broker(), prefix=settings.lane_prefix())
        yield from lanes.findings(probed, connection)
