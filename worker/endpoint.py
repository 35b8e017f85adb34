"""A small HTTP server beside a worker or the scheduler: `/metrics`, `/live` and `/ready`. It must not know whose.

It answers GET alone, of a few callers at a time, and never waits for the database or the broker: what it says was
looked up before.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

AT_ONCE = 8  # callers
CALLER = 5.0  # seconds that a caller has to say what it wants, and to take the answer

Why = Callable[[], list[str]]  # sentences that say why not; none: it is so


class Endpoint:
    """Serves from threads until it is closed. Raises OSError where the port cannot be had."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, *, live: Why, ready: Why) -> None:
        class Handler(_Handler):
            answers = {"/metrics": None, "/live": live, "/ready": ready}  # noqa: RUF012  # read only

        Handler.registry = registry
        self._server = _Server((host, port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._callers = threading.BoundedSemaphore(AT_ONCE)
        if ":" in arguments[0][0]:
            self.address_family = socket.AF_INET6
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._callers.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._callers.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is none of ours; what else fails is logged by the handler."""


class _Handler(BaseHTTPRequestHandler):
    timeout = CALLER
    answers: dict[str, Why | None]
    registry: CollectorRegistry

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path not in self.answers:
            self._send(HTTPStatus.NOT_FOUND, "there are /metrics, /live and /ready\n")
            return
        try:
            why = self.answers[path]
            if why is None:
                encode, content = choose_encoder(self.headers.get("Accept", ""))
                self._send(HTTPStatus.OK, encode(self.registry), content)
            elif reasons := why():
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{reason}\n" for reason in reasons))
            else:
                self._send(HTTPStatus.OK, f"{path[1:]}\n")
        except Exception:
            log.exception("could not answer %s", path)
            raise

    def _send(self, status: HTTPStatus, body: str | bytes, content: str = "text/plain; charset=utf-8") -> None:
        written = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(written)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(written)

    def version_string(self) -> str:
        return "twinvec"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: somebody asks every few seconds."""
