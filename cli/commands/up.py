"""`twinvec up`: the whole stack in the foreground, or left running in the background."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.display.console import err, key_values, masked, out, print_json
from cli.errors import CommandError
from local.servers.logs import rotate_if_large
from local.servers.process import last_lines
from local.signals import Interrupts
from local.stack import READY_WITHIN, Stack
from worker.runfile import RunFile
from worker.settings import Settings


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready; `down` stops it.")] = False,
    broker_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the embedded broker on 127.0.0.1; 0: a free one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the URLs as one JSON object when ready.")] = False,
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
        _in_background(home, broker_port)
        _show(home, started, json=json, stop="`twinvec down` stops it")
        return
    with Interrupts() as interrupts:
        stack = Stack(settings, broker_port=broker_port, say=lambda line: err.print(line, markup=False))
        try:
            with err.status("starting broker, database and workers"):
                stack.start()
            _show(home, started, json=json, stop="Ctrl-C stops it")
            stack.supervise()
        except KeyboardInterrupt:
            err.print("stopping, after what the workers are doing; Ctrl-C again stops at once")
        finally:
            stack.stop(interrupts)


def _in_background(home: Path, broker_port: int | None) -> None:
    """Run `up` in a session of its own; return when it is ready. Raises CommandError with its own reason."""
    try:
        log = rotate_if_large(home / "logs" / "up.log")
        start = log.stat().st_size if log.exists() else 0
        output = log.open("ab")
    except OSError as error:
        raise CommandError(
            f"cannot write to {home}: {error.strerror}; set TWINVEC_HOME to a folder of your own"
        ) from error
    port = [] if broker_port is None else ["--broker-port", str(broker_port)]
    with output:
        stack = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "up", *port],
            env=os.environ | {"COLUMNS": "10000"},  # its one sentence stays on one line
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_WITHIN + 60
    with err.status("starting broker, database and workers"):
        while not _is_ready(home, stack.pid):
            if stack.poll() is not None:
                said = log.read_text()[start:].strip() and last_lines(log, 1)
                raise CommandError((said or "the stack ended without a word").removeprefix("twinvec: "))
            if time.monotonic() > deadline:
                raise CommandError(f"the stack is not ready yet; see {log}, or stop it with `twinvec down`")
            time.sleep(0.05)


def _is_ready(home: Path, pid: int) -> bool:
    run = RunFile.read(home / "run.json")
    return run is not None and run.ready and run.supervisor == pid


def _show(home: Path, started: float, *, json: bool, stop: str) -> None:
    run = RunFile.read(home / "run.json")
    if run is None:  # it was stopped this very moment
        return
    if json:
        print_json(
            {
                "broker_url": masked(run.broker_url),
                "database_url": masked(run.database_url),
                "home": home,
                "pid": run.supervisor,
            }
        )
        return
    rows = key_values(
        broker=masked(run.broker_url),
        database=masked(run.database_url),
        logs=str(home / "logs"),
        workers=", ".join(run.workers),
    )
    out.print(rows)
    out.print(f"[green]ready[/] after {time.monotonic() - started:.1f} s; {stop}")
