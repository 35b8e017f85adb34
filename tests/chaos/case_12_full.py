"""No room: the disk under the database is full, then the database's log as well, then the broker's memory.

A client that waits is told what is full, only whole batches are stored, and work goes on by itself once there is room.
"""

import re
import time
from threading import Event
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from local.servers.postgres import Postgres
from tests.chaos.application import CHUNK, Sending
from tests.chaos.disk import Disk, small_disk
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import judge
from tests.chaos.pictures import Pictures, digests, noise
from tests.chaos.result import Result
from twinvec_client import TwinvecError

LONG: dict[str, Any] = {"count": 10_000, "seconds": 20.0}
SHORT: dict[str, Any] = {"count": 1_000, "seconds": 1.0}

DISK_FULL, LOG_FULL, BROKER_FULL = "database's disk full", "its log full", "broker full"
HOG = 16 * 2**20  # bytes of somebody else's in the broker
STATES = (
    "No such file|refused|server closed the connection"
    "|system is (in recovery mode|starting up|shutting down|not yet accepting connections)"
)
OUTAGE = 5.0  # seconds that the client which is told waits: longer than it takes to send a chunk again


def run(*, count: int, seconds: float) -> Result:
    """seconds: how long each stays full."""
    result = Result(case=12, name="no room", faults="")
    told: dict[str, str] = {}
    for_disk, for_broker = noise(count, seed=1, prefix="disk/"), noise(count, seed=2, prefix="broker/")
    with small_disk() as disk:
        fleet = Fleet()
        fleet.database = Postgres(disk.folder / "postgres", fleet.home / "logs" / "postgres.log")
        with fleet:
            sending, go_on = under_way(fleet, for_disk)
            fill_disk(fleet, disk, go_on, result, told, seconds)
            went_on(fleet, sending, result)
            sending, go_on = under_way(fleet, for_broker)
            fill_broker(fleet, go_on, result, told, seconds)
            went_on(fleet, sending, result)
            judge(fleet, digests(for_disk | for_broker)).write(result)
    result.images = 2 * count
    result.faults = ", ".join(told)
    skipped = [] if DISK_FULL in told else [f"{DISK_FULL}: left out, as nothing may be mounted here"]
    said = [f"{what}: `{words}`" for what, words in told.items()]
    ended = [result.note] if result.note else []
    result.note = "; ".join([f"the disk is {disk.how}", *skipped, *said, *ended])
    return result


def fill_disk(fleet: Fleet, disk: Disk, go_on: Event, result: Result, told: dict[str, str], seconds: float) -> None:
    """Fill the disk, then the log, which ends the server; start it again when there is room, as a supervisor does."""
    server = fleet.database.process()
    assert server is not None
    disk.fill(server)
    go_on.set()
    if disk.spares_the_log:
        told[DISK_FULL] = refusal(fleet)
        result.require("No space left" in told[DISK_FULL], f"on a full disk the client is told: {told[DISK_FULL]}")
        whole_batches(fleet, result, "on a full disk")
        stays(fleet, seconds, result)
    fill_log(fleet)
    told[LOG_FULL] = refusal(fleet)
    result.require(
        str(fleet.database.folder) in told[LOG_FULL] and re.search(STATES, told[LOG_FULL]),
        f"without a database the client is not told which one, and what is with it: {told[LOG_FULL]}",
    )
    result.require("No space left" in log_of(fleet) or not disk.spares_the_log, "the server's log does not say why")
    time.sleep(seconds)
    disk.make_room(fleet.database.process())
    if stuck(fleet):
        result.note = "the server stayed half started when it had room again, and was ended"
        fleet.database.stop(immediate=True)
    fleet.database.start()


def fill_log(fleet: Fleet) -> None:
    """Have the server want a new file for its log, and wait until it has ended over that."""

    def write() -> bool:
        try:
            with fleet.engine.begin() as connection:
                connection.execute(text("SELECT pg_logical_emit_message(false, 'chaos', repeat('x', 1000000), true)"))
                connection.execute(text("SELECT pg_switch_wal()"))
        except DBAPIError:
            return not answers(fleet)
        return False

    fleet.until(write, "the end of a server whose log is full", within=60)


def stuck(fleet: Fleet) -> bool:
    """Whether a server is left that does not come up: PostgreSQL 18 may stay so if its recovery finds no room."""
    deadline = time.monotonic() + 10
    while fleet.database.process() is not None and not answers(fleet):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.1)
    return False


def fill_broker(fleet: Fleet, go_on: Event, result: Result, told: dict[str, str], seconds: float) -> None:
    """Fill the broker's memory with somebody else's data, and take that away again."""
    with fleet.lanes.redis() as broker:
        broker.set("hog", bytes(HOG))
        broker.config_set("maxmemory", HOG)
        go_on.set()
        told[BROKER_FULL] = refusal(fleet)
        result.require("is full" in told[BROKER_FULL], f"of a full broker the client says: {told[BROKER_FULL]}")
        whole_batches(fleet, result, "with a full broker")
        stays(fleet, seconds, result)
        broker.delete("hog")


def under_way(fleet: Fleet, pictures: Pictures) -> tuple[Sending, Event]:
    """A client that has sent the first half, of which some is embedded; it sends the rest once it may go on."""
    go_on = Event()
    enough = fleet.ledger.done() + len(pictures) // 5
    sending = fleet.application.embedding(pictures, pace=lambda at: at < len(pictures) // 2 or go_on.wait(120))
    fleet.until(lambda: fleet.ledger.done() >= enough, "a fifth of the digits")
    return sending, go_on


def went_on(fleet: Fleet, sending: Sending, result: Result) -> None:
    """Require that what was under way ends by itself, and note how long that took."""
    room = time.monotonic()
    fleet.ledger.settled(sending.result(within=240), within=240)
    result.recovery.append(time.monotonic() - room)
    whole_batches(fleet, result, "at the end")


def refusal(fleet: Fleet) -> str:
    """What a client is told that sends now, and does not wait for long."""
    client = fleet.application.client()
    client.resend_after, client.outage, client.accept_timeout = 1, OUTAGE, OUTAGE
    try:
        client.embed(noise(CHUNK, seed=3), collection="refused", idempotency_key="refused")
    except TwinvecError as error:
        return str(error)
    return "nothing: it was taken"


def stays(fleet: Fleet, seconds: float, result: Result) -> None:
    """Let it stay as it is for a while; nothing is given up meanwhile."""
    time.sleep(seconds)
    given_up = fleet.ledger.one("SELECT count(*) FROM batches WHERE state IN ('split', 'dead')")
    result.require(not given_up, f"{given_up} batches were split or given up for want of room")


def whole_batches(fleet: Fleet, result: Result, when: str) -> None:
    """Require that a batch has all its vectors where it is done, and none where it is not."""
    query = """
        SELECT batches.id, state, cardinality(digits) AS digits,
            (SELECT count(*) FROM embeddings WHERE digit = ANY(batches.digits)) AS vectors
        FROM batches
    """
    torn = [row.id for row in fleet.ledger.rows(query) if row.vectors != (row.digits if row.state == "done" else 0)]
    result.require(not torn, f"{when} these batches are stored in part: {torn}")


def answers(fleet: Fleet) -> bool:
    try:
        with fleet.engine.connect() as connection:
            return bool(connection.execute(text("SELECT true")).scalar_one())
    except DBAPIError:
        return False


def log_of(fleet: Fleet) -> str:
    return fleet.database.log.read_text(errors="replace")
