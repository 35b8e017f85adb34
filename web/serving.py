"""Serves the page on a socket that listens, until the process is asked to end. It must not know what is served."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

_ENDING = 5  # seconds that requests may take when the server is asked to end


def serve(app: ASGIApp, listening: socket.socket, *, at_once: int) -> None:
    """Blocks. at_once: connections; what comes beyond them is told to come again."""
    server(app, at_once=at_once).run(sockets=[listening])


def server(app: ASGIApp, *, at_once: int = 100) -> uvicorn.Server:
    """No line for each request is written: its address may hold keys of pictures."""
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=True,
        limit_concurrency=at_once,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_ENDING,
        ws="none",
    )
    return uvicorn.Server(config)
