"""A Sentinel of the wheel's Valkey, which watches a broker and promotes its replica when it is lost."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import redis

from local.ports import free_port
from local.servers import valkey
from local.servers.process import await_ready, spawn, wait_for_end

NAME = "main"  # of the broker
SETTINGS = """
port {port}
bind 0.0.0.0
protected-mode no
sentinel monitor {name} {host} {broker} {quorum}
sentinel down-after-milliseconds {name} 3000
sentinel failover-timeout {name} 10000
"""


class Sentinel:
    """host, broker: address and port of the broker. quorum: Sentinels that have to agree that it is lost."""

    def __init__(self, folder: Path, *, host: str, broker: int, port: int = 0, quorum: int = 1) -> None:
        self.port = port or free_port()
        self._folder, self._log = folder, folder / "sentinel.log"
        self._settings = SETTINGS.format(port=self.port, name=NAME, host=host, broker=broker, quorum=quorum)
        self._process: psutil.Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        settings = self._folder / "sentinel.conf"
        settings.write_text(self._settings)
        command: list[str | Path] = [valkey._binary(), settings, "--sentinel"]
        self._process = server = spawn(command, folder=self._folder, log=self._log)
        await_ready(server, lambda: valkey._answers(self.port), seconds=60, log=self._log)

    def stop(self) -> None:
        if self._process is not None:
            with suppress(psutil.NoSuchProcess):
                self._process.kill()
            wait_for_end(self._process, 5)

    def found(self) -> tuple[int, int]:
        """How many replicas and how many other Sentinels it knows."""
        with redis.Redis(port=self.port) as server:
            known: dict[str, Any] = server.sentinel_masters()[NAME]
        return known["num-slaves"], known["num-other-sentinels"]
