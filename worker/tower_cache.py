"""The towers a process has loaded, by their id in the ledger.

A process that embeds in bulk runs them by Keras's backend. One that embeds a few pictures at a time, for a look-up or a
small job, computes those of dense layers alone, which all recipes make but `conv`, by NumPy where there is no GPU: it
never loads Keras, which takes seconds and half a gigabyte, and answers sooner.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from sqlalchemy import select

from db.tables import Tower
from db.vectors import towers as ledger
from training.errors import TowerError
from training.model import dense
from training.model.devices import may_have_gpu

log = logging.getLogger(__name__)

KEPT = 3  # the live one, a candidate, and the previous one
TRUSTED = 1.0  # seconds; no database is restored from a backup and has trained another tower within them

Transact = Callable[..., Any]  # as `Runtime.transact`
Embed = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]  # (n, 784) uint8 -> (n, 128) float32


class TowerCorrupt(TowerError):
    """A tower's stored file is not the one that was registered. Restore it from a backup, or train again."""


class TowerGone(TowerError):
    """A retired or rejected tower's file is pruned. Train another; `TWINVEC_KEEP_TOWERS` says how long one is kept."""


class TowerCache:
    """Loads a tower on first use, checked and compiled, and keeps the few that were used last.

    In a database that was restored from a backup, an id may come to be another tower's: that an id still means the same
    weights is looked up again whenever that was not done for a second.

    in_bulk: whether Keras computes whatever it is.
    """

    def __init__(
        self, transact: Transact, clock: Callable[[], float] = time.monotonic, *, in_bulk: bool = False
    ) -> None:
        self._transact, self._clock, self._in_bulk = transact, clock, in_bulk
        self._loaded = lru_cache(maxsize=KEPT)(self._load)
        self._prepared: set[int] = set()
        self._loaded_before: set[int] = set()
        self._known: dict[int, tuple[str, float]] = {}  # by id: the fingerprint, and when it was looked up

    def __getitem__(self, id: int) -> Embed:
        """Raises TowerError: TowerCorrupt, TowerGone, or that its file is not a tower's."""
        return self.known_as(id, self._fingerprint(id))

    def known_as(self, id: int, fingerprint: str, /) -> Embed:
        """The same, where the ledger says the fingerprint in the transaction that this is for. Raises TowerError."""
        return self._loaded(id, fingerprint)

    def _fingerprint(self, id: int) -> str:
        now = self._clock()
        found, looked_up = self._known.get(id, ("", -math.inf))
        if now - looked_up > TRUSTED:
            found = self._transact(ledger.fingerprint_of, id, ends=True)
            self._known[id] = found, now
        return found

    def warm_up(self) -> None:
        """Load every tower that is embedded under now, and the backend where it is needed, tower or none: that it does
        not load is told when the worker starts."""
        if self._in_bulk:
            import_module("training.model.compiled")
        query = select(Tower.id).where(ledger.is_maintained())
        for id in self._transact(lambda session: session.execute(query).scalars().all()):
            self[id]

    def prepare(self, id: int, /) -> bool:
        """Whether a tower was loaded before; else it is loaded in a thread, unless that was begun: nothing waits."""
        if id not in self._prepared and id not in self._loaded_before:
            self._prepared.add(id)
            threading.Thread(target=self._prepare, args=(id,), daemon=True).start()
        return id in self._loaded_before

    def _prepare(self, id: int) -> None:
        try:
            self[id]
        except Exception as error:  # whatever it is, it is raised again where the tower is needed
            log.warning("could not load tower %d ahead: %s", id, error)

    def _load(self, id: int, expected: str) -> Embed:
        start = time.perf_counter()
        gc.collect()  # a tower that was put out refers to itself; left to Python, dozens of them would stay
        tower = self._transact(ledger.with_file, id)
        if tower.file is None:
            raise TowerGone(f"the file of tower {id} is pruned: it is {tower.status}")
        if hashlib.sha256(tower.file).digest() != tower.file_digest:
            raise TowerCorrupt(f"the file of tower {id} does not have the digest it was registered with")
        embed = None if self._in_bulk else by_numpy(tower.file, expected)
        embed = embed or by_keras(tower.file, expected)
        if embed is None:
            raise TowerCorrupt(f"the weights of tower {id} do not have the fingerprint they were registered with")
        self._loaded_before.add(id)
        log.info("loaded tower %d (%.12s) in %.1f s", id, tower.fingerprint, time.perf_counter() - start)
        return embed


def by_numpy(file: bytes, expected: str) -> Embed | None:
    """A tower of dense layers, computed by NumPy; None where it is another, or Keras may have a GPU for it."""
    if may_have_gpu():
        return None
    tower = dense.read(file)
    return tower if tower is not None and tower.fingerprint == expected else None


def by_keras(file: bytes, expected: str) -> Embed | None:
    """A tower compiled by Keras's backend; None where its weights have another fingerprint."""
    from training.model.compiled import compiled  # noqa: PLC0415  # loads Keras

    return compiled(file, expected)
