"""`twinvec health`: whether this machine reaches what a worker needs, and whether lanes get their work done."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from cli.connect import check_broker
from cli.display.console import foreign, key_values, masked, out, show
from cli.doctor import lanes as probes
from cli.doctor.finding import PROBLEM
from cli.errors import CommandError
from cli.options import Json, lane_names
from db.engine import connect
from db.preflight import look, server_faults, table_faults
from twinvec_client.contract.broker import LANES
from worker import installation
from worker.preflight import broker_faults, insist
from worker.settings import Settings

ANSWERED_WITHIN = 5.0  # seconds


@dataclass(frozen=True)
class LaneHealth:
    """A lane's work, in seconds; None where there is nothing to tell."""

    probe: float | None  # from a probe's sending to its answer; None: a worker there works on something else
    waiting: int  # messages in the broker
    oldest_waiting: float | None  # since the oldest batch that waits was queued
    last_finished: float | None  # since a batch was finished
    paused: bool = False  # by an operator, which is no fault; a paused intake is not probed

    def __str__(self) -> str:
        answer = "" if self.paused else "busy"
        said = [answer if self.probe is None else f"answers in {1000 * self.probe:.0f} ms", f"{self.waiting:,} waiting"]
        said = ["paused", *filter(None, said)] if self.paused else said
        if self.oldest_waiting is not None:
            said.append(f"the oldest batch for {self.oldest_waiting:,.0f} s")
        if self.last_finished is not None:
            said.append(f"the last was finished {self.last_finished:,.0f} s ago")
        return ", ".join(said)


def health(
    lanes: Annotated[
        str,
        typer.Option(
            "--lanes", "--lane", help=f"Send a probe through these too, joined by commas: {', '.join(LANES)}."
        ),
    ] = "",
    live: Annotated[
        bool, typer.Option("--live", help="Only ask the worker that serves TWINVEC_HTTP_PORT here whether it is live.")
    ] = False,
    ready: Annotated[bool, typer.Option("--ready", help="As --live, whether it is ready.")] = False,
    json: Json = False,
) -> None:
    """Check that broker and database will do and the tables are up to date; what a container's health check runs.

    With --lanes or --lane, that work gets done there as well: a probe goes through each lane, and has the database
    asked, and the tower where the lane runs one. A lane is healthy while any of its workers answers, or finishes
    batches.

    With --live or --ready, nothing but that worker is asked, which says it of itself.

    \b
    Exit status: 0 healthy, 1 not, 4 no broker answers.

    \b
    Example:
      twinvec health && echo ready
      twinvec health --lanes embed,backfill --json
    """
    wanted = lane_names(lanes) if lanes else []
    settings = Settings()
    if live or ready:
        said = {path: _ask_worker(settings, path) for path, asked in (("live", live), ("ready", ready)) if asked}
        show(said, lambda _: out.print(", ".join(said)), as_json=json)
        return
    broker = settings.broker()
    check_broker(broker)
    insist(broker_faults(broker))
    database = settings.require_database()
    engine = connect(database)
    try:
        with engine.connect() as connection:
            insist([*server_faults(look(connection), processes=1), *table_faults(connection)])
        insist(installation.faults(broker, settings))
        probed = probes.lanes(broker, wanted, prefix=settings.lane_prefix()) if wanted else []
        with engine.connect() as connection:
            found = {finding.found for finding in probes.findings(probed, connection) if finding.level == PROBLEM}
            if found:
                raise CommandError("; ".join(sorted(found)))
            working = {lane.name: _health(lane, probes.work(connection, lane)) for lane in probed}
    finally:
        engine.dispose()
    reached = {"broker": masked(broker), "database": masked(database), "tables": "up to date"}
    rows = {name: foreign(place) for name, place in reached.items()} | _said(working)
    show({**reached, "lanes": working}, lambda _: out.print(key_values(**rows)), as_json=json)


def _ask_worker(settings: Settings, path: str) -> bool:
    """True. Raises CommandError where the worker on this machine says no, or nothing."""
    if not settings.http_port:
        raise CommandError("no worker serves its health here: set TWINVEC_HTTP_PORT to the port of one")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)
    connection = HTTPConnection(host, settings.http_port, timeout=ANSWERED_WITHIN)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        why = answer.read().decode(errors="replace").strip().splitlines()
    except (OSError, HTTPException) as error:
        raise CommandError(f"the worker on port {settings.http_port} does not answer: {error}") from None
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise CommandError(f"not {path}: {'; '.join(why)}")
    return True


def _health(lane: probes.Lane, work: probes.Work | None) -> LaneHealth:
    return LaneHealth(
        probe=None if not isinstance(lane.probed, dict) else lane.seconds,
        waiting=lane.waiting,
        oldest_waiting=None if work is None else work.queued,
        last_finished=None if work is None else work.finished,
        paused=not lane.read or (work is not None and work.paused),
    )


def _said(working: dict[str, LaneHealth]) -> dict[str, str]:
    return {name: str(health) for name, health in working.items()}
