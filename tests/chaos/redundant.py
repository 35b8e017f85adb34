"""A fleet on hosts whose database has a standby, and whose broker has a replica that Sentinels watch.

Either can be failed over, and what was lost can be set up again as the new one's follower.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import text

from db.engine import transact
from tests.chaos.doctor import OPERATOR, ask_doctor
from tests.chaos.hosts import CHUNK, CLIENT, SECONDS, HostedPostgres, HostedValkey, Hosts, running
from tests.chaos.member import ROOT
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result
from tests.makers import register
from tests.sentinel import NAME, Sentinel
from twinvec_client.contract.broker import SENTINEL_PORT

WATCHERS = (CLIENT, OPERATOR, "trainer")  # hosts of a Sentinel each; two of them have to agree
SETTINGS = {"TWINVEC_DATA": str(ROOT / "tests" / "data" / "mnist-sample.npz")}
LATEST = 60.0  # seconds from the loss to the next finished batch
BACKFILLED = 10.0  # seconds that a batch of a backfill takes, so that the loss comes in its middle
UNDER_WAY = 2 * SECONDS  # in which a batch that was claimed, and one that was sent, may still be finished
TRAINED = 240.0  # seconds that a training may take which is started over


class Redundant(Hosts):
    """Workers and clients know both databases and every Sentinel."""

    def __init__(self) -> None:
        super().__init__(settings=SETTINGS, more=("standby", "replica"))
        self.standby = HostedPostgres(
            self.home / "standby", self.home / "logs" / "standby.log", self.network["standby"]
        )
        self.replica = HostedValkey(self.home / "replica", self.home / "logs" / "replica.log", self.network["replica"])
        host, port = self.broker.host.address, self.broker.port
        self._sentinels = {
            name: Sentinel(self.home / f"sentinel-{name}", host=host, broker=port, port=SENTINEL_PORT, quorum=2)
            for name in WATCHERS
        }

    @property
    def remote_database(self) -> str:
        hosts = "host=database:5432&host=standby:5432"
        return f"postgresql://postgres@/postgres?{hosts}&target_session_attrs=read-write"

    @property
    def remote_broker(self) -> str:
        hosts = ";".join(f"sentinel://{name}:{SENTINEL_PORT}" for name in WATCHERS)
        return f"{hosts}/0?master_name={NAME}"

    def _start(self) -> None:
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        self.broker.start()
        self._follow_broker()
        for name, sentinel in self._sentinels.items():
            with self.network[name].inside():
                sentinel.start()
        self.until(self._sentinels_are_ready, "Sentinels that know each other and the replica")
        super()._start()
        self._follow_database()

    def stop(self) -> None:
        for sentinel in self._sentinels.values():
            sentinel.stop()
        self.replica.stop(immediate=True)
        self.standby.stop(immediate=True)
        super().stop()

    def fail_database_over(self, *, with_host: bool) -> None:
        """Kill the primary and promote the standby. with_host: its host is gone as well, and closes no connection."""
        if with_host:
            self.network.part(self.database.host.name)
        self.database.stop(immediate=True)
        lost = self.database
        self.standby.promote()
        self.look_at(self.standby)
        self.standby = lost

    def fail_broker_over(self, *, with_host: bool) -> None:
        """Kill the primary; its Sentinels promote the replica. with_host: as for the database."""
        if with_host:
            self.network.part(self.broker.host.name)
        self.broker.stop(immediate=True)
        self.broker, self.replica = self.replica, self.broker

    def rejoin(self) -> None:
        """Have what was lost come back, and follow what has taken over."""
        for lost in (self.standby, self.replica):
            if lost.process() is None:
                self.network.forget(lost.host.name)
        self.network.heal()
        if self.standby.process() is None:
            shutil.rmtree(self.standby.folder)
            self._follow_database()
        if self.replica.process() is None:
            self._follow_broker()

    def _follow_database(self) -> None:
        """Start the standby, and have it confirm every commit from now on."""
        self.standby.follow(self.database.host.address)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER SYSTEM SET synchronous_standby_names = '*'"))
            connection.execute(text("SELECT pg_reload_conf()"))
        self.until(
            lambda: self.ledger.one("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"),
            "a standby that confirms commits",
        )

    def _sentinels_are_ready(self) -> bool:
        for name, sentinel in self._sentinels.items():
            with self.network[name].inside():
                if sentinel.found() != (1, len(WATCHERS) - 1):
                    return False
        return True

    def _follow_broker(self) -> None:
        self.replica.primary = self.broker.host.address
        self.replica.start()
        self.until(lambda: self.replica.info()["master_link_status"] == "up", "a replica that has all")


def run(
    result: Result,
    fail_over: Callable[..., None],
    *,
    digits: int,
    during: Sequence[str],
    with_host: bool,
    shared: Redundant | None,
) -> Result:
    """A failover during each of `during`; every second one takes the server's process and leaves its host.

    with_host: whether the first one takes the host.
    """
    steps = {"bulk": in_bulk, "training": in_training, "backfill": in_backfill}
    with running(shared, Redundant) as fleet:
        for at, what in enumerate(during):
            lose = partial(fail_over, fleet, with_host=with_host == (at % 2 == 0))
            steps[what](fleet, result, f"{result.name} {at}", digits, lose)
            fleet.rejoin()
        result.extra_work = extra_work(fleet)
    result.require(all(each <= LATEST for each in result.recovery), f"resumed late: {result.recovery} s")
    result.note = (
        f"in the middle of {', '.join(during)}; {CHUNK} digits a batch; recovery is the time from the primary's end to "
        "the next finished batch"
    )
    return result


def in_bulk(fleet: Redundant, result: Result, name: str, digits: int, lose: Callable[[], None]) -> None:
    before = fleet.ledger.done()
    client = fleet.send(name, digits)
    fleet.until(lambda: fleet.ledger.reaches(before + digits // 8), "the middle of the job")
    lost = fleet.faults.note(name)
    lose()
    ask_doctor(fleet).judge(result, name)
    client.finish(result)
    fleet.ledger.settled(within=180)
    recovery = next_finish(fleet, [lost], under_way=UNDER_WAY)
    result.require(recovery, f"{name}: nothing was left to do after it")
    result.recovery += recovery
    result.images = (result.images or 0) + digits
    judge(fleet, digests(noise(digits)), collection=name).write(result)


def in_training(fleet: Redundant, result: Result, name: str, digits: int, lose: Callable[[], None]) -> None:
    """A training that is waited for on the client's host; its tower goes live."""
    towers = fleet.ledger.one("SELECT count(*) FROM towers")
    command = [*fleet.network[CLIENT].before, sys.executable, "-P", "-m", "cli", "train", "--recipe", "quick", "--json"]
    environment = fleet.environment(CLIENT) | {"KERAS_BACKEND": "none"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as client:
        fleet.until(
            lambda: fleet.ledger.one("SELECT count(*) FROM jobs WHERE kind = 'train' AND progress IS NOT NULL"),
            "the middle of the training",
            within=TRAINED,
        )
        lose()
        ask_doctor(fleet).judge(result, name)
        answer, _ = client.communicate(timeout=TRAINED)
    result.require(client.returncode == 0, f"{name}: the client was told {answer!r}")
    trained = fleet.ledger.one("SELECT count(*) FROM towers") - towers
    result.require(trained == 1, f"{name}: {trained} towers of one training")
    await_live(fleet, fleet.ledger.one("SELECT max(id) FROM towers"))
    judge_all(fleet, result)


def in_backfill(fleet: Redundant, result: Result, name: str, digits: int, lose: Callable[[], None]) -> None:
    """A second tower goes live over what is stored."""
    fleet.injection.slow_down(BACKFILLED)
    tower = register(partial(transact, fleet.engine), name)
    query = """
        SELECT count(*) FROM batches JOIN jobs ON jobs.id = job
        WHERE kind = 'backfill' AND jobs.tower = :tower AND state = 'leased'
    """
    fleet.until(lambda: fleet.ledger.one(query, tower=tower), "the middle of the backfill")
    lost = fleet.faults.note(name)
    lose()
    ask_doctor(fleet).judge(result, name)
    await_live(fleet, tower)
    result.recovery += next_finish(fleet, [lost])
    fleet.injection.slow_down(0)
    judge_all(fleet, result)


def await_live(fleet: Redundant, tower: int) -> None:
    fleet.until(
        lambda: fleet.ledger.one("SELECT id FROM towers WHERE status = 'live'") == tower,
        f"tower {tower} live",
        within=TRAINED,
    )


def judge_all(fleet: Redundant, result: Result) -> None:
    """Judge what earlier jobs have stored, under the tower that is live now."""
    for row in fleet.ledger.rows("SELECT collection, count(*) AS digits FROM digits GROUP BY collection"):
        judge(fleet, digests(noise(row.digits)), collection=row.collection).write(result)
