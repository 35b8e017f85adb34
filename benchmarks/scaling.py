"""Bulk work against the number of workers, and against the way to broker and database.

    python -m benchmarks.scaling                  # prints the table; as root, for hosts of their own
    python -m benchmarks.scaling --write          # and puts it in docs/performance.md
    python -m benchmarks.scaling --digits 20000 --rounds 1 --only 0

First all on one machine, its broker at a TCP port and its database at a socket. Then broker, database, client and each
worker are on hosts of their own, network namespaces of this machine, and each packet between them is carried by a
thread of this process, which holds it back for half of the round trip. That thread and all hosts share the machine's
cores, so rates are compared with the one of the same hosts without a delay.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.pages import circumstances, publish, spread, table
from benchmarks.place import Place
from benchmarks.processes import alone, quiet
from benchmarks.servers import ledger, stand
from tests.chaos.hosts import HostedPostgres, HostedValkey, psycopg
from tests.chaos.member import Member
from tests.chaos.network import Network, NoNetwork, require
from tests.chaos.waiting import until

CORES = os.cpu_count() or 1
EVERY = 0.2  # seconds between two looks at what processes have used
WARM = 20_000  # digits before the clock runs, so that every worker has had some
KINDS = ("client", "intake", "embedder", "front", "database", "broker", "network")


class Crew(NamedTuple):
    intakes: int
    embedders: int

    def lanes(self) -> dict[str, str]:
        """Member -> the lanes it serves; `beat` is the clock."""
        intakes = {f"intake-{at}": "intake" for at in range(self.intakes)}
        embedders = {f"embedder-{at}": "embed,backfill" for at in range(self.embedders)}
        return {"front": "query,control,express", **intakes, **embedders, "beat": ""}


TOGETHER = (Crew(1, 1), Crew(1, 2), Crew(2, 2), Crew(2, 4))  # on one machine
APART = (Crew(1, 1), Crew(2, 2), Crew(4, 4))
ROUND_TRIPS = (0, 1, 20)  # ms to broker and database, and back


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What a client uses. before: words that start it where it is. processes: of each kind. postmaster: the process
    whose children serve the database's connections."""

    place: Place
    before: Sequence[str]
    processes: dict[str, list[psutil.Process]]
    postmaster: psutil.Process


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A run. used: seconds of the processor, by kind. most: by the busiest process alone, and its kind."""

    rate: float
    seconds: float
    used: dict[str, float]
    most: tuple[float, str]


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    rows: list[list[object]] = []
    if wanted.only in (None, "0"):
        for crew in TOGETHER:
            with together(crew) as found:
                runs = [measured(found, wanted.digits, at) for at in range(wanted.rounds)]
                rows.append(row("one machine", crew, runs))
    if wanted.only in (None, "1") and can_part():
        for crew in APART:
            with apart(crew) as (found, network):
                still = 0.0
                for trip in ROUND_TRIPS:
                    network.latency = trip / 2000
                    runs = [measured(found, wanted.digits, f"{trip}/{at}") for at in range(wanted.rounds)]
                    still = still or statistics.median(run.rate for run in runs)
                    rows.append(row(f"hosts, {trip} ms", crew, runs, still))
                network.latency = 0.0
    heads = ["where", "intakes", "embedders", "images/s", "of 0 ms", "cores busy", "busiest process", *KINDS]
    head = (
        f"{wanted.digits:,} digits, medians of {wanted.rounds} runs. Cores that are busy, and how much of one the "
        f"busiest process takes; then microseconds of the processor for each digit."
    )
    publish("scaling", "\n\n".join([head, table(heads, rows), circumstances(load)]), write=wanted.write)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("0", "1"), help="0: on one machine; 1: on hosts of their own")
    parser.add_argument("--write", action="store_true", help="put the table in docs/performance.md")
    return parser.parse_args()


def can_part() -> bool:
    """Whether this machine can have hosts of their own; says what is missing."""
    try:
        require()
    except NoNetwork as missing:
        print(f"no hosts of their own: {missing}", file=sys.stderr)
        return False
    return True


def row(where: str, crew: Crew, runs: Sequence[Measured], still: float | None = None) -> list[object]:
    middle = sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
    share = "" if still is None else f"{middle.rate / still:.2f}"
    busy = f"{sum(middle.used.values()) / middle.seconds:.2f} of {CORES}"
    most = f"{middle.most[1]} {middle.most[0] / middle.seconds:.2f}"
    digits = middle.rate * middle.seconds
    each = [f"{middle.used.get(kind, 0) / digits * 1e6:.1f}" for kind in KINDS]
    print(where, crew, f"{middle.rate:,.0f}/s", busy, most, dict(zip(KINDS, each, strict=True)), flush=True)
    return [where, crew.intakes, crew.embedders, spread([run.rate for run in runs]), share, busy, most, *each]


def measured(found: Installation, count: int, name: object) -> Measured:
    """One job, and what it took of the processor."""
    looks: list[tuple[float, dict[psutil.Process, float]]] = []
    kinds, ended = {each: kind for kind, some in found.processes.items() for each in some}, threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            kinds.update(dict.fromkeys([found.postmaster, *found.postmaster.children()], "database"))
            looks.append((time.time(), {each: _used(each) for each in list(kinds)}))

    looking = threading.Thread(target=look)
    looking.start()
    told = {"place": asdict(found.place), "count": count, "warm": WARM, "png": False, "name": f"run {name}"}
    try:
        run = alone("twinvec", before=found.before, **told)
    finally:
        ended.set()
        looking.join()
    first = max((each for each in looks if each[0] <= run["began"]), key=lambda each: each[0])[1]
    last = min((each for each in looks if each[0] >= run["began"] + run["seconds"]), key=lambda each: each[0])[1]
    single = {each: last[each] - first.get(each, 0.0) for each in last}
    used = {kind: sum(spent for each, spent in single.items() if kinds[each] == kind) for kind in set(kinds.values())}
    most = max([(spent, kinds[each]) for each, spent in single.items()] + [(run["cpu"], "client")])
    return Measured(rate=count / run["seconds"], seconds=run["seconds"], used={**used, "client": run["cpu"]}, most=most)


def _used(process: psutil.Process) -> float:
    """Seconds of the processor."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


@contextmanager
def together(crew: Crew) -> Iterator[Installation]:
    """Everything on this machine."""
    with ledger() as place, working(crew, place, lambda name: ()) as members:
        broker, postmaster = (servers_in(place.folder, name)[0] for name in ("valkey-server", "postgres"))
        processes = {**by_kind(members), "broker": [broker]}
        yield Installation(place=place, before=(), processes=processes, postmaster=postmaster)


@contextmanager
def apart(crew: Crew) -> Iterator[tuple[Installation, Network]]:
    """Each on a host of its own."""
    network = Network("broker", "database", "client", *crew.lanes())
    with tempfile.TemporaryDirectory(prefix="twinvec-bench-") as folder, network:
        for host in network.hosts.values():
            # Else a connection that rested for a moment begins each batch as slowly as a new one.
            setting = "net.ipv4.tcp_slow_start_after_idle=0"
            subprocess.run([*host.before, "sysctl", "-qw", setting], check=True)
        (Path(folder) / "logs").mkdir()
        broker = HostedValkey(Path(folder) / "valkey", Path(folder) / "logs" / "valkey.log", network["broker"])
        database = HostedPostgres(
            Path(folder) / "postgres", Path(folder) / "logs" / "postgres.log", network["database"]
        )
        try:
            broker.start()
            database.start()
            own = stand(psycopg(database.url), broker.url, folder)
            place = replace(own, database_url="postgresql+psycopg://postgres@database:5432/postgres")
            with working(crew, place, lambda name: network[name].before) as members:
                postmaster = servers_in(folder, "postgres")[0]
                processes = {**by_kind(members), "broker": servers_in(folder, "valkey-server")}
                processes["network"] = [psutil.Process()]
                client = network["client"].before
                yield Installation(place=place, before=client, processes=processes, postmaster=postmaster), network
        finally:
            broker.stop(immediate=True)
            database.stop(immediate=True)


@contextmanager
def working(crew: Crew, place: Place, before: Callable[[str], Sequence[str]]) -> Iterator[dict[str, Member]]:
    """The workers, ready for work."""
    home = Path(place.folder) / "workers"
    (home / "logs").mkdir(parents=True)
    environment = {
        **quiet(),
        "TWINVEC_BROKER_URL": place.broker_url,
        "TWINVEC_DATABASE_URL": place.database_url,
        "TWINVEC_OPEN_BROKER": "1",
        "REMAP_SIGTERM": "SIGQUIT",
    }
    members = {}
    try:
        for name, lanes in crew.lanes().items():
            command = ("-m", "cli", "worker", "--lanes", lanes, "--name", name) if lanes else ("-m", "cli", "beat")
            own = environment | {"TWINVEC_HOME": str(home / name)}
            members[name] = Member(name, command, home, own, before=before(name))
            members[name].start()
        until(lambda: all(each.ready() for each in members.values()), "workers that are ready", within=180)
        yield members
    finally:
        for member in members.values():
            member.end()


def by_kind(members: dict[str, Member]) -> dict[str, list[psutil.Process]]:
    """The processes of workers."""
    found: dict[str, list[psutil.Process]] = {}
    for name, member in members.items():
        found.setdefault(name.partition("-")[0], []).extend(member.family())
    return found


def servers_in(folder: str, name: str) -> list[psutil.Process]:
    """The processes of a server, the oldest first."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == name and process.cwd().startswith(folder):
                found.append(process)
    return sorted(found, key=lambda each: each.create_time())


if __name__ == "__main__":
    main()
