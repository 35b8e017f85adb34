"""TLS before the embedded servers, which have none themselves: a certificate authority and a terminator.

The terminator speaks what a server with TLS alone would: Redis's TLS from the first byte, and PostgreSQL's request for
it; a client that speaks plain text is turned away.
"""

import asyncio
import ssl
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

PG_WANTS_TLS = struct.pack("!ii", 8, 80877103)  # PostgreSQL's SSLRequest

Upstream = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Authority:
    """A certificate authority of the test's own, by the `openssl` command; `file` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.file = folder, folder / "ca.pem"
        self._openssl("req", "-x509", *NEW_KEY, "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")

    def server(self, name: str) -> ssl.SSLContext:
        """What a server shows whose certificate is for `name`: `IP:127.0.0.1`, say, or `DNS:elsewhere.example`."""
        extensions = self.folder / "extensions"
        extensions.write_text(f"subjectAltName={name}\n")
        self._openssl("req", *NEW_KEY, "server.key", "-out", "server.csr", "-subj", "/CN=test server")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", extensions.name]
        self._openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", "-days", "2", *signing)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return context

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")


class Terminator:
    """Listens on `port` of 127.0.0.1, and hands what comes in over TLS to a server that has none. Without a context it
    says that it has no TLS, as PostgreSQL does, and hands plain text on.
    """

    def __init__(self, context: ssl.SSLContext | None, upstream: Upstream, *, postgres: bool = False) -> None:
        self._context, self._upstream, self._postgres = context, upstream, postgres
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="terminator", daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self._server = started.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Turn everybody away from now on, those that are connected as well. Twice is no error."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    async def _listen(self) -> asyncio.Server:
        from_the_start = None if self._postgres else self._context
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=from_the_start)

    async def _end(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        there = None
        try:
            if self._postgres:
                if await reader.readexactly(len(PG_WANTS_TLS)) != PG_WANTS_TLS:
                    return
                writer.write(b"N" if self._context is None else b"S")
                await writer.drain()
                if self._context is not None:
                    await writer.start_tls(self._context)
            answers, there = await self._upstream()
            await asyncio.wait(
                [asyncio.create_task(_pump(reader, there)), asyncio.create_task(_pump(answers, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except (OSError, EOFError, asyncio.CancelledError):  # it went away, or we do
            pass
        finally:
            self._connections.discard(connection)
            for end in (writer, there):
                if end is not None:
                    end.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await source.read(65536):
            sink.write(content)
            await sink.drain()
