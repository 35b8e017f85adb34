"""Renews the leases a process holds, from a thread of its own. It must not know the work they are for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from db.queue.leases import Lease
from worker.logs import about

log = logging.getLogger(__name__)


class LeaseRenewer:
    """One thread renews all leases of a process. It sleeps while there are none."""

    def __init__(self, renew: Callable[[Lease], bool], *, every: float) -> None:
        self._renew, self._every = renew, every  # seconds
        self._leases: dict[int, Lease] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def renewing(self, lease: Lease) -> Iterator[None]:
        """Renew `lease` while the block runs. A lost lease is only logged: the fence refuses what its holder writes."""
        with self._changed:
            self._leases[lease.batch] = lease
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._leases.pop(lease.batch, None)

    def _run(self) -> None:
        stop = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._leases)
            stop.wait(self._every)
            with self._changed:
                held = list(self._leases.values())
            for lease in held:
                try:
                    if not self._renew(lease) and self._holds(lease):
                        log.warning(
                            "lost the lease of batch %d", lease.batch, extra=about(job=lease.job, batch=lease.batch)
                        )
                except Exception as error:  # the database may be down for a while; the next round tries again
                    log.warning(
                        "could not renew the lease of batch %d: %s",
                        lease.batch,
                        error,
                        extra=about(job=lease.job, batch=lease.batch),
                    )

    def _holds(self, lease: Lease) -> bool:
        """Whether its work still runs; it may have finished while the lease was renewed."""
        with self._changed:
            return self._leases.get(lease.batch) is lease
