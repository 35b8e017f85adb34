"""Times steps: the clock, the CPU of this process, and that of the servers."""

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil


class Meter:
    """Times steps, by name. The first of each name is not counted: it pays what is paid once."""

    def __init__(self, servers: Iterable[psutil.Process]) -> None:
        # Nanoseconds that each thread has run: `cpu_times` counts in hundredths of a second.
        threads = [path for server in servers for path in Path(f"/proc/{server.pid}/task").glob("*/schedstat")]
        self._accounts = [path.open("rb", buffering=0) for path in threads]
        self._spent: dict[str, list[list[float]]] = defaultdict(list)

    def clear(self) -> None:
        self._spent.clear()

    def now(self) -> list[float]:
        """Seconds: the clock, CPU of this process, CPU of the servers."""
        servers = 0
        for account in self._accounts:
            account.seek(0)
            servers += int(account.read().split()[0])
        return [time.perf_counter(), time.process_time(), servers / 1e9]

    def note(self, name: str, start: list[float]) -> None:
        self._spent[name].append([after - before for before, after in zip(start, self.now(), strict=True)])

    def timed(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            result = step(*args, **kwargs)
            self.note(name, start)
            return result

        return timing

    def each(self, name: str, step: Callable[[Any], Any], given: Iterable[Any]) -> list[Any]:
        """What the step makes of each."""
        made = []
        for one in given:
            made.append(self.timed(name, step)(one))
            gc.freeze()  # what is kept here for the next stage is not collected: a worker does not hold it
        return made

    @contextmanager
    def parts(self, **parts: tuple[Any, str]) -> Iterator[None]:
        """Time functions, each given by where it is looked up, when the product calls them."""
        with ExitStack() as stack:
            for name, (owner, function) in parts.items():
                timed = self.timed(name, getattr(owner, function))
                stack.enter_context(patch.object(owner, function, timed))
            yield

    def medians(self, count: int) -> dict[str, list[float]]:
        """Microseconds for each of the `count` digits of a step."""
        return {
            name: [statistics.median(column) / count * 1e6 for column in zip(*spent[1:], strict=True)]
            for name, spent in self._spent.items()
        }
