"""A proxy that can fall silent: it swallows what is sent over connections that are open, and closes nothing."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Engine


class Proxy:
    """Stands on a port of 127.0.0.1, before a server on a port (an int) or a socket (a path)."""

    def __init__(self, server: int | Path) -> None:
        self._server = server
        self._listener = _patient(socket.create_server(("127.0.0.1", 0)))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[_Pair] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def swallow(self) -> int:
        """Let every connection that is open now fall silent; how many they are. New ones are forwarded."""
        with self._lock:
            for pair in self._open:
                pair.silent = True
            return len(self._open)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        with self._lock:
            pairs = list(self._open)
        for pair in pairs:
            pair.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _connected(self) -> socket.socket:
        if isinstance(self._server, int):
            return socket.create_connection(("127.0.0.1", self._server))
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._server))
        return server

    def _forward(self, client: socket.socket) -> None:
        try:
            pair = _Pair(_patient(client), _patient(self._connected()))
        except OSError:  # the server is away
            client.close()
            return
        with self._lock:
            self._open.add(pair)
        with contextlib.suppress(OSError):
            for receiver, data in pair.read():
                receiver.sendall(data)
        pair.close()
        with self._lock:
            self._open.discard(pair)


def before(engine: Engine) -> Proxy:
    """One before the server of an engine, which has it on a socket."""
    place = engine.url.query
    return Proxy(Path(str(place["host"])) / f".s.PGSQL.{place['port']}")


def url_through(proxy: Proxy, engine: Engine) -> str:
    """Of an engine's database, behind a proxy."""
    url = engine.url.set(host="127.0.0.1", port=proxy.port, query={"connect_timeout": "30"})  # a busy machine
    return url.render_as_string(hide_password=False)


def _patient(end: socket.socket) -> socket.socket:
    """The same without a time limit. Celery, when it shuts down, and kombu set one for all sockets of the process and
    take it back; where two threads do so at once it stays, and a listener would give up after 5 s.
    """
    end.settimeout(None)
    return end


class _Pair:
    """A client's connection and the server's."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.silent = False

    def read(self) -> Iterator[tuple[socket.socket, bytes]]:
        """(where to, what) until either side closes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.client, selectors.EVENT_READ, self.server)
            selector.register(self.server, selectors.EVENT_READ, self.client)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]  # a socket
                    if self.silent:
                        if not data:  # its end is swallowed as well
                            selector.unregister(key.fileobj)
                        continue
                    if not data:
                        return
                    yield key.data, data

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
