"""The towers a process has loaded, by their id in the ledger. Importing this loads Keras: only `runtime` does."""

from __future__ import annotations

import gc
import hashlib
import logging
import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sqlalchemy import select

from db.states import EMBEDDED_UNDER
from db.tables import Tower
from db.vectors import towers as ledger
from training.model.embedder import Embedder
from training.model.storage import fingerprint, load

log = logging.getLogger(__name__)

KEPT = 3  # the live one, a candidate, and the previous one
TRUSTED = 1.0  # seconds; no database is restored from a backup and has trained another tower within them

Transact = Callable[..., Any]  # as `Runtime.transact`


class TowerCorrupt(Exception):
    """A tower's stored file is not the one that was registered. Restore it from a backup, or train again."""


class TowerGone(Exception):
    """A retired or rejected tower's file is pruned. Train another; `TWINVEC_KEEP_TOWERS` says how long one is kept."""


class TowerCache:
    """Loads a tower on first use, checked and compiled, and keeps the few that were used last.

    In a database that was restored from a backup, an id may come to be another tower's: that an id still means the same
    weights is looked up again whenever that was not done for a second.
    """

    def __init__(self, transact: Transact, clock: Callable[[], float] = time.monotonic) -> None:
        self._transact, self._clock = transact, clock
        self._loaded = lru_cache(maxsize=KEPT)(self._load)
        self._known: dict[int, tuple[str, float]] = {}  # by id: the fingerprint, and when it was looked up

    def __getitem__(self, id: int) -> Embedder:
        """Raises TowerCorrupt, TowerGone."""
        return self._loaded(id, self._fingerprint(id))

    def _fingerprint(self, id: int) -> str:
        now = self._clock()
        found, looked_up = self._known.get(id, ("", -math.inf))
        if now - looked_up > TRUSTED:
            found = self._transact(ledger.fingerprint_of, id)
            self._known[id] = found, now
        return found

    def warm_up(self) -> None:
        """Load the live tower and the candidate, if they exist."""
        query = select(Tower.id).where(Tower.status.in_(EMBEDDED_UNDER))
        for id in self._transact(lambda session: session.execute(query).scalars().all()):
            self[id]

    def _load(self, id: int, expected: str) -> Embedder:
        start = time.perf_counter()
        gc.collect()  # a tower that was put out refers to itself; left to Python, dozens of them would stay
        tower = self._transact(ledger.with_file, id)
        if tower.file is None:
            raise TowerGone(f"the file of tower {id} is pruned: it is {tower.status}")
        if hashlib.sha256(tower.file).digest() != tower.file_digest:
            raise TowerCorrupt(f"the file of tower {id} does not have the digest it was registered with")
        model = load(tower.file)
        if fingerprint(model) != expected:
            raise TowerCorrupt(f"the weights of tower {id} do not have the fingerprint they were registered with")
        embedder = Embedder(model)
        embedder.warm_up()
        log.info("loaded tower %d (%.12s) in %.1f s", id, tower.fingerprint, time.perf_counter() - start)
        return embedder
