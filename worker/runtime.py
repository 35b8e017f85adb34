"""What a process holds while it works: settings, engine, loaded towers, renewed leases. It must not know a task."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property, partial
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.engine import connect, transact, transact_long
from db.errors import first_line
from db.queue import leases, turns
from db.queue.leases import Lease
from db.states import JobKind
from worker import metrics, silence
from worker.lease_renewal import LeaseRenewer
from worker.logs import about
from worker.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

EMBEDDED = (JobKind.EMBED, JobKind.BACKFILL)  # the kinds of jobs whose batches have digits to embed


class Towers(Protocol):
    """What `worker.tower_cache.TowerCache` is to those who do not load it."""

    def __getitem__(self, id: int, /) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
        """The tower of this id: (n, 784) uint8 -> (n, 128) float32."""

    def known_as(self, id: int, fingerprint: str, /) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
        """The same, where the ledger says its fingerprint in the transaction that it is computed for."""

    def warm_up(self) -> None:
        """Load every tower that is embedded under now."""

    def prepare(self, id: int, /) -> bool:
        """Whether a tower is loaded; else it is loaded meanwhile, for it is needed soon. Nothing is raised."""


class Runtime:
    """One for each process, made on first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.engine = connect(settings.require_database(), statement_limit=settings.statement_timeout)
        silence.watch(self.engine)
        self.turns = turns.Turns()
        self.lease_renewer = LeaseRenewer(self._renew, every=settings.lease / 4)
        self.answered = 0.0  # when the database last did, by `time.monotonic()`

    @cached_property
    def towers(self) -> Towers:
        """The towers this process has loaded.

        A process that never embeds loads nothing for it.
        """
        from worker.tower_cache import TowerCache  # noqa: PLC0415  # loads HDF5

        return TowerCache(self.transact, in_bulk=bool({"embed", "backfill"} & served()))

    def transact(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(session, ...)` in a transaction of its own; see `db.engine.transact`."""
        result = transact(self.engine, work, *args, **kwargs)
        self.answered = time.monotonic()
        return result

    def transact_long(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `transact`, for work that may touch very many rows; see `db.engine.transact_long`."""
        return transact_long(self.engine, work, *args, **kwargs)

    def claim(self, batch: int, *kinds: JobKind) -> Lease | None:
        """Claim a batch, of a job of these kinds where any are named; None where it cannot be claimed."""
        claimed = self.transact(self.claim_within, batch, *kinds, ends=True)
        if claimed is not None:
            metrics.count_claimed(claimed)
        return claimed

    def claim_within(self, session: Session, batch: int, *kinds: JobKind, ends: bool = False) -> Lease | None:
        """As `claim`, in a transaction that has begun, and not counted. ends: whether that is committed with it."""
        return leases.claim(
            session,
            batch,
            kinds=kinds or tuple(JobKind),
            worker=self.name,
            lease=self.settings.lease,
            max_attempts=self.settings.max_attempts,
            ends=ends,
        )

    def claim_together(self, batch: int) -> list[Lease]:
        """As `claim`, for a batch to embed; a small one together with other small ones that are queued."""
        return self._with_small(self.claim(batch, *EMBEDDED))

    def claim_next(self, batch: int | None) -> list[Lease]:
        """As `claim_together`, for a message that names a batch of new digits, or none: jobs take turns, whichever it
        names.

        There is a message for each batch, so each is claimed by one or the other.
        """
        claimed = self.transact(self._claim_in_turn, batch)
        if claimed is not None:
            metrics.count_claimed(claimed)
        return self._with_small(claimed)

    def _claim_in_turn(self, session: Session, batch: int | None) -> Lease | None:
        waiting = turns.oldest(session, JobKind.EMBED)
        while (due := self.turns.next(waiting)) is not None:
            if claimed := self.claim_within(session, due.batch, *EMBEDDED, ends=True):
                return claimed
            waiting.remove(due)  # another worker was faster, or there is no tower
        return None if batch is None else self.claim_within(session, batch, *EMBEDDED, ends=True)

    def _with_small(self, first: Lease | None) -> list[Lease]:
        """A claimed batch; where it is small, with others."""
        if first is None:
            return []
        if first.kind != JobKind.EMBED or first.attempt > 1 or len(first.digits) > leases.SMALL:
            return [first]
        more = partial(leases.claim_more, first=first, worker=self.name, lease=self.settings.lease)
        # In the order of ids, in which a cancel locks a job's batches as well: no deadlock.
        others = self.transact(more)
        for other in others:
            metrics.count_claimed(other)
        return sorted([first, *others], key=lambda lease: lease.batch)

    @contextmanager
    def holding(self, leases: Sequence[Lease]) -> Iterator[None]:
        """Renew leases while the block runs; on an error, or when asked to shut down, give the batches back."""
        try:
            with ExitStack() as beating:
                for lease in leases:
                    beating.enter_context(self.lease_renewer.renewing(lease))
                yield
        except BaseException as error:
            for lease in leases:
                self.give_back(lease, error)
            raise

    def give_back(self, lease: Lease, reason: BaseException | None) -> None:
        """Queue a batch again: after an error for a later try, after a request to shut down or without a reason for
        another worker.

        Where the database does not answer, the lease expires instead.
        """
        error = f"{type(reason).__name__}: {first_line(reason)}" if isinstance(reason, Exception) else None
        if error is not None:
            metrics.RETRIES.labels(lease.kind).inc()
        try:
            self.transact(leases.give_back, lease, error=error, pause=self.settings.republish_after)
        except DBAPIError as error:
            log.warning(
                "could not give batch %d back: %s",
                lease.batch,
                error.orig,
                extra=about(job=lease.job, batch=lease.batch),
            )

    def warm_up(self) -> None:
        """Load the live tower and the candidate."""
        self.towers.warm_up()

    def _renew(self, lease: Lease) -> bool:
        return self.transact(leases.renew, lease, self.settings.lease)


def served() -> set[str]:
    """The lanes of this process's worker, as `twinvec worker` notes them; none in any other process."""
    return set(os.environ.get("TWINVEC_LANES", "").split(","))


@cache
def runtime() -> Runtime:
    """This process's runtime."""
    return Runtime(Settings())
