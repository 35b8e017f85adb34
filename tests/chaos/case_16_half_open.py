"""Connections that one side holds to be open and the other has forgotten: no packet of them ever arrives again.

As after a firewall's idle limit, or a host that lost its power: no FIN, no RST, only new connections are carried.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tests.chaos.doctor import ask_doctor
from tests.chaos.hosts import CHUNK, Hosts, psycopg, running
from tests.chaos.member import ROOT
from tests.chaos.oracle import extra_work, judge
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"rounds": 3, "faults": ("all", "broker", "database", "embedder", "locks")}
SHORT: dict[str, Any] = {"rounds": 1, "faults": ("embedder",)}
FLEET = Hosts

DIGITS = 1_280  # of each job: the client still sends at the fault
UNDER_WAY = 1.0  # seconds in which what was under way at a fault may still be committed
LATEST = 30.0  # seconds from the fault to the next finished batch
HOLD_LOCKS = """
import sys, time
from sqlalchemy import text
from db.engine import connect
with connect(sys.argv[1]).begin() as connection:
    connection.execute(text("SELECT id FROM batches WHERE state IN ('queued', 'leased') FOR UPDATE"))
    print("locked", flush=True)
    time.sleep(600)
"""


def run(*, rounds: int, faults: Sequence[str], shared: Hosts | None = None) -> Result:
    hurts: dict[str, Callable[[Hosts], list[int] | None]] = {
        "all": forget_all,
        "broker": crash_broker,
        "database": crash_database,
        "embedder": crash_embedder,
        "locks": vanish_with_locks,
    }
    result = Result(case=16, name="connections half open", faults=f"{rounds} times each of {', '.join(faults)}")
    result.images = rounds * len(faults) * DIGITS
    with running(shared, Hosts) as fleet:
        for at in range(rounds):
            for what in faults:
                one(fleet, result, f"{what}-{at}", hurts[what])
        result.extra_work = extra_work(fleet)
    result.note = (
        f"all: every connection is forgotten at once; broker, database, embedder: its processes are killed and started "
        f"again, and nobody is told; locks: a host is lost in a transaction that has locked every batch; {CHUNK} "
        "digits a batch; recovery is the time from the fault to the next finished batch, of those that were locked"
    )
    return result


def one(fleet: Hosts, result: Result, name: str, hurt: Callable[[Hosts], list[int] | None]) -> None:
    """One job, with one fault in its middle. hurt: gives the batches that suffer by it, or None for all."""
    before = fleet.ledger.done()
    client = fleet.send(name, DIGITS)
    fleet.until(lambda: fleet.ledger.reaches(before + DIGITS // 8), "the middle of the job")
    fault = fleet.faults.note(name)
    hurt_batches = hurt(fleet)
    ask_doctor(fleet).judge(result, name)
    client.finish(result)
    fleet.ledger.settled(within=120)
    query = """
        SELECT extract(epoch FROM min(finished_at)) FROM batches
        WHERE finished_at > to_timestamp(:since) AND (CAST(:batches AS bigint[]) IS NULL OR id = ANY(:batches))
    """
    finished = fleet.ledger.one(query, since=fault.at + UNDER_WAY, batches=hurt_batches)
    recovery = [] if finished is None else [float(finished) - fault.at]
    result.require(recovery, f"{name}: nothing was left to do after it")
    result.require(all(each <= LATEST for each in recovery), f"{name}: resumed late: {recovery} s")
    result.recovery += recovery
    judge(fleet, digests(noise(DIGITS)), collection=name).write(result)


def forget_all(fleet: Hosts) -> None:
    fleet.network.forget("broker", "database")


def crash_broker(fleet: Hosts) -> None:
    fleet.network.part("broker")
    fleet.broker.stop(immediate=True)
    fleet.network.forget("broker")
    fleet.broker.start()
    fleet.network.heal()


def crash_database(fleet: Hosts) -> None:
    fleet.network.part("database")
    fleet.database.stop(immediate=True)
    fleet.network.forget("database")
    fleet.database.start()
    fleet.network.heal()


def crash_embedder(fleet: Hosts) -> None:
    fleet.network.part("embedder")
    fleet.faults.kill("embedder")
    fleet.network.forget("embedder")
    fleet.network.heal()


def vanish_with_locks(fleet: Hosts) -> list[int]:
    """What holds the locks is a process beside the workers: none of them can be caught in its transactions for sure."""
    command = [*fleet.network["trainer"].before, sys.executable, "-c", HOLD_LOCKS, psycopg(fleet.remote_database)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=fleet.environment("trainer")) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        fleet.network.part("trainer")
        locked = [row.id for row in fleet.ledger.rows("SELECT id FROM batches WHERE state IN ('queued', 'leased')")]
        holder.kill()
    fleet.network.forget("trainer")
    fleet.network.heal()
    return locked
