"""What is done to a fleet from outside: kills, freezes, a broker that forgets, a database that stops."""

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil
import redis

from local.servers.postgres import Postgres
from local.servers.valkey import Valkey
from tests.chaos.ledger import Ledger
from tests.chaos.member import Member, send, strike


@dataclass
class Fault:
    """Something that was done to the fleet, when (seconds since 1970), and the batches that its victim held.

    holders: the names under which the victim held them. rescued: when the last of them was free for others.
    """

    what: str
    at: float
    held: list[int] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)
    rescued: float | None = None

    def over(self) -> bool:
        """Whether others may have what the victim held."""
        return not self.held or self.rescued is not None


class Faults:
    """Hurts a fleet; `noted` is what was done so far. ending: set when the fleet ends."""

    def __init__(
        self,
        members: Mapping[str, Member],
        ledger: Ledger,
        broker: Valkey,
        database: Postgres,
        ending: threading.Event,
    ) -> None:
        self.noted: list[Fault] = []
        self._members, self._ledger = members, ledger
        self._broker, self._database = broker, database
        self._ending = ending

    def kill(self, name: str, what: str = "tree") -> Fault:
        """SIGKILL for a member: its `parent`, its pool `child`, or the whole `tree`, stopped first.

        Waits for what was killed to be gone, and notes which batches it held.
        """
        member = self._members[name]
        holders = member.holders()
        at = time.time()
        strike(member.pool() if what == "child" else [member.process()] if what == "parent" else member.family())
        held = (
            self._ledger.rows(
                "SELECT id FROM batches WHERE state = 'leased' AND worker = ANY(:holders)", holders=holders
            )
            if holders
            else []
        )
        fault = Fault(f"{what} of {name}", at, [row.id for row in held], holders)
        self.noted.append(fault)
        if fault.held:
            threading.Thread(target=self._watch_rescue, args=(fault,), name="rescue", daemon=True).start()
        return fault

    def _watch_rescue(self, fault: Fault) -> None:
        """Note when the last batch that the victim held is no longer its own."""
        query = "SELECT count(*) FROM batches WHERE id = ANY(:held) AND state = 'leased' AND worker = ANY(:holders)"
        while not self._ending.wait(0.1):
            if not self._ledger.one(query, held=fault.held, holders=fault.holders):
                fault.rescued = time.time()
                return

    def freeze(self, name: str) -> list[psutil.Process]:
        """SIGSTOP for a member and its pool; `thaw` them."""
        frozen = self._members[name].family()
        send(frozen, signal.SIGSTOP)
        return frozen

    def thaw(self, frozen: Sequence[psutil.Process]) -> None:
        send(frozen, signal.SIGCONT)

    def kill_broker(self, *, down: float = 0.0) -> Fault:
        """SIGKILL for the broker; it is started again at the same port after `down` seconds."""
        fault = self.note("broker")
        strike([process] if (process := self._broker.process()) else [])
        time.sleep(down)
        self._broker.start()
        return fault

    def flush_broker(self) -> Fault:
        """Have the broker forget everything."""
        fault = self.note("broker")
        with redis.Redis.from_url(self._broker.url) as broker:
            broker.flushall()
        return fault

    def stop_database(self) -> Fault:
        """Immediate stop: sessions are cut, and the next start recovers from the log."""
        fault = self.note("database")
        self._database.stop(immediate=True)
        return fault

    def cut_connections(self) -> Fault:
        """End every session of the members at the database."""
        fault = self.note("connections")
        self._ledger.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'twinvec' AND pid <> pg_backend_pid()"
        )
        return fault

    def note(self, what: str) -> Fault:
        """Note that something was done, now."""
        fault = Fault(what, time.time())
        self.noted.append(fault)
        return fault
