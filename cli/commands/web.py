"""`twinvec web`: the page in the browser."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli.connect import check_broker, who
from cli.display.console import out
from cli.errors import CommandError
from cli.exit_codes import USAGE
from twinvec_client import AsyncTwinvec
from worker.settings import Settings

LEAST_TOKEN = 16  # characters
ANSWER_TIMEOUT = 12.0  # seconds; a visitor does not wait longer
REPORT_SECONDS = 180.0
_AT_ONCE = 400  # connections
_REPORTING = asyncio.Lock()  # one at a time: each holds half a gigabyte


def web(
    host: Annotated[str, typer.Option(help="The address to listen on; beyond this machine, a token is wanted.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A host name by which browsers reach the page; may be repeated.")
    ] = None,
) -> None:
    """Serve the page in the browser: draw a digit, browse and label, judge pairs, and watch jobs, towers and workers.

    It listens on this machine alone. On another address it asks each visitor for the token in TWINVEC_WEB_TOKEN, of 16
    characters or more, and belongs behind a proxy that speaks TLS. It needs the extra `web`.

    \b
    Example:
      twinvec web
      TWINVEC_WEB_TOKEN=$(openssl rand -hex 16) twinvec web --host 0.0.0.0 --name digits.example
    """
    if any(find_spec(each) is None for each in ("jinja2", "python_multipart", "starlette", "uvicorn")):
        raise CommandError("the page needs packages that are not here: pip install '.[web]' in the checkout")
    settings = Settings()
    token = checked_token(settings, host)
    url = settings.broker()
    check_broker(url)
    listening = _listen(host, port)
    from web.app import create_app  # noqa: PLC0415  # of an extra
    from web.serving import serve  # noqa: PLC0415  # as above

    tv = AsyncTwinvec(url, prefix=settings.lane_prefix(), answer_timeout=ANSWER_TIMEOUT)
    names = {*(name or ()), *(() if is_loopback(host) else (host, socket.gethostname()))}
    app = create_app(tv, token=token, names=names, by=who(), report=report if _has_database(settings) else None)
    shown = "localhost" if is_loopback(host) else (name or [socket.gethostname()])[0]
    out.print(f"The page is at http://{shown}:{listening.getsockname()[1]}/ until Ctrl-C", soft_wrap=True)
    serve(app, listening, at_once=_AT_ONCE)


def checked_token(settings: Settings, host: str) -> str | None:
    """What visitors must show. Raises CommandError where it is missing beyond this machine, or short."""
    token = settings.web_token.get_secret_value() if settings.web_token is not None else None
    if token is None and not is_loopback(host):
        raise CommandError(
            f"on {host} others reach the page: set TWINVEC_WEB_TOKEN to a secret, e.g. by `openssl rand -hex 16`", USAGE
        )
    if token is not None and len(token) < LEAST_TOKEN:
        raise CommandError(f"TWINVEC_WEB_TOKEN has fewer than {LEAST_TOKEN} characters: it can be guessed", USAGE)
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there; of a name, only `localhost` is known to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def report(tower: int) -> bytes:
    """A tower's report as HTML, by `twinvec report` in a process of its own: it loads TensorFlow, and takes seconds.

    Raises RuntimeError where it fails, or takes too long.
    """
    async with _REPORTING:
        return await _report(tower)


async def _report(tower: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="twinvec-") as folder:
        path = Path(folder) / "report.html"
        command = (sys.executable, "-m", "cli", "report", str(tower), "--to", str(path))
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise RuntimeError(said.decode(errors="replace").strip().rpartition("\n")[2])
        return path.read_bytes()


def _has_database(settings: Settings) -> bool:
    return settings.database() is not None


def _listen(host: str, port: int) -> socket.socket:
    """Raises CommandError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CommandError(f"cannot listen on {host}:{port}: {reason}; --port picks another port") from error
