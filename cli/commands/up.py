"""`twinvec up`: the whole stack in the foreground, or left running in the background."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.display.console import err, foreign, key_values, masked, out, print_json
from cli.options import Json
from local.detached import start_detached
from local.signals import Interrupts
from worker.runfile import RunFile, run_file
from worker.settings import Settings


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready; `down` stops it.")] = False,
    broker_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the embedded broker on 127.0.0.1; 0: a free one.")
    ] = None,
    json: Json = False,
) -> None:
    """Start broker, database and workers here.

    The embedded servers keep their data in TWINVEC_HOME (.twinvec); where TWINVEC_BROKER_URL or
    TWINVEC_DATABASE_URL is set, that server is used instead. Ctrl-C stops everything in order, a second one at once.

    \b
    Example:
      twinvec up --detach
      twinvec train
      twinvec down
    """
    started = time.monotonic()
    settings = Settings()
    home = settings.home
    if detach:
        warnings: list[str] = []
        with err.status("starting broker, database and workers"):
            start_detached(home, broker_port=broker_port, say=warnings.append)
        for line in warnings:
            err.print(foreign(line), soft_wrap=True)
        _show(home, started, json=json, stop="`twinvec down` stops it")
    else:
        _stay(settings, started, broker_port=broker_port, json=json)


def _stay(settings: Settings, started: float, *, broker_port: int | None, json: bool) -> None:
    """Run the stack in this process, until it is interrupted."""
    # These load drivers, and one who starts a stack in the background waits for that in the other process.
    from cli.starting import warn_of  # noqa: PLC0415  # as it says above
    from local.stack import Stack  # noqa: PLC0415  # as it says above
    from worker.preflight import backend_faults, home_faults  # noqa: PLC0415  # as it says above

    home = settings.home
    warn_of([*home_faults(home), *backend_faults()])
    with Interrupts() as interrupts:
        stack = Stack(settings, broker_port=broker_port, say=lambda line: err.print(foreign(line)))
        try:
            with err.status("starting broker, database and workers"):
                stack.start()
            _show(home, started, json=json, stop="Ctrl-C stops it")
            stack.supervise()
        except KeyboardInterrupt:
            err.print("stopping, after what the workers are doing; Ctrl-C again stops at once")
        finally:
            stack.stop(interrupts)


def _show(home: Path, started: float, *, json: bool, stop: str) -> None:
    run = RunFile.read(run_file(home))
    if run is None:  # it was stopped this very moment
        return
    if json:
        print_json(
            {
                "broker_url": masked(run.broker_url),
                "database_url": masked(run.database_url),
                "home": home,
                "http": run.http,
                "pid": run.supervisor,
            }
        )
        return
    rows = key_values(
        broker=foreign(masked(run.broker_url)),
        database=foreign(masked(run.database_url)),
        logs=foreign(home / "logs"),
        workers=", ".join(run.workers),
        metrics=", ".join(f"{url.removeprefix('http://')} ({name})" for name, url in run.http.items()),
    )
    out.print(rows)
    out.print(f"[green]ready[/] after {time.monotonic() - started:.1f} s; {stop}")
