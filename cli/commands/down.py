"""`twinvec down`: stops a stack, also one whose supervisor was killed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import psutil
import typer

from cli.display.console import err, out
from cli.errors import CommandError
from local.processes import end, find_marked
from local.servers import Servers
from local.servers.process import ended
from local.stack import GRACE
from worker.runfile import RunFile
from worker.settings import Settings


def down(
    now: Annotated[bool, typer.Option("--now", help="Do not wait for what the workers are doing.")] = False,
) -> None:
    """Stop what `up` started in TWINVEC_HOME; the data stays.

    Workers finish what they are doing, for 45 seconds at most; what they do not finish is done after the next `up`.

    \b
    Example:
      twinvec down
    """
    home = Settings().home
    run_file = home / "run.json"
    if not home.exists():
        out.print(f"nothing runs in {home}", markup=False)
        return
    run = RunFile.read(run_file)
    with err.status("stopping workers, then servers"):
        supervisor = None if run is None else run.holder()
        if supervisor is not None:
            _ask(supervisor, now=now)
        stopped = _clear(home, now=now) or supervisor is not None
    out.print(f"stopped; the data stays in {home}" if stopped else f"nothing runs in {home}", markup=False)


def _ask(supervisor: psutil.Process, *, now: bool) -> None:
    """Let the supervisor stop its stack. Raises CommandError where it belongs to somebody else."""
    try:
        supervisor.terminate()
        if now:
            time.sleep(0.2)  # the first signal must have been taken before a second one hurries
            supervisor.terminate()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        raise CommandError(f"process {supervisor.pid}, which holds the stack, belongs to another user") from None
    if not ended(supervisor, GRACE + 90):
        supervisor.kill()


def _clear(home: Path, *, now: bool) -> bool:
    """Stop what has no supervisor any more; whether there was anything. Raises EmbeddedError: the home is held."""
    nothing = Servers(home, broker=False, database=False)
    nothing.start()  # holds the home, so that nobody starts a stack meanwhile
    left = find_marked(home)
    servers = nothing.processes()
    end(left, grace=0 if now else GRACE)
    nothing.stop(immediate=now)
    (home / "run.json").unlink(missing_ok=True)
    return bool(left or servers)
