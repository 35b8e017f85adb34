"""Every message on a picture's way comes five times, in any order; a lease runs out while its holder still works."""

import json
import random
import uuid
from functools import partial
from typing import Any

from db.engine import transact
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import judge
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result
from tests.makers import register

LONG: dict[str, Any] = {"digits": 12_800, "outlived": 6}
SHORT: dict[str, Any] = {"digits": 1_280, "outlived": 1}

TIMES = 5
LANES = ("intake", "embed", "backfill")
WINDOW = 16  # chunks that a client has on their way


def run(*, digits: int, outlived: int) -> Result:
    """outlived: leases that run out while their holder is stopped, and then goes on."""
    faults = f"each message at {', '.join(LANES)} {TIMES} times, shuffled; {outlived} leases outlived"
    result = Result(case=6, name="messages repeated, leases outlived", faults=faults)
    sent: dict[str, bytes] = {}
    with Fleet() as fleet:
        sent |= repeated(fleet, digits, result)
        filled(fleet, result)
        for at in range(outlived):
            sent |= outlive(fleet, at)
        result.images = len(sent)
        judge(fleet, sent).write(result)
    return result


def repeated(fleet: Fleet, count: int, result: Result) -> dict[str, bytes]:
    pictures = noise(count)
    chunk = count // WINDOW
    late = ("beat", "intake", "embedder-1", "embedder-2")
    for name in late:
        fleet.members[name].rest()
    sending = fleet.application.embedding(pictures, chunk=chunk)
    deliveries = multiply(fleet, "intake", at_least=WINDOW)
    fleet.members["intake"].start()
    job = sending.result()
    batches = fleet.ledger.one("SELECT count(*) FROM batches")
    deliveries += multiply(fleet, "embed", at_least=batches)
    for name in late:
        if not fleet.members[name].alive():
            fleet.members[name].start()
    fleet.ledger.settled(job)
    fleet.until(lambda: not waiting(fleet), "the end of the messages")
    claims = len(fleet.injection.noted("claims"))
    result.extra_work = claims / batches - 1
    result.require(claims == batches, f"{claims} claims of {batches} batches")
    result.note = f"{deliveries} messages where {WINDOW + batches} were due"
    return digests(pictures)


def filled(fleet: Fleet, result: Result) -> None:
    """A second tower goes live, each message of its filling repeated."""
    for member in embedders(fleet):
        member.rest()
    tower = register(partial(transact, fleet.engine), "second")
    due = fleet.ledger.one("SELECT count(*) FROM batches WHERE state = 'queued'")
    deliveries = multiply(fleet, "backfill", at_least=due)
    for member in embedders(fleet):
        member.start()
    fleet.until(
        lambda: fleet.ledger.one("SELECT id FROM towers WHERE status = 'live'") == tower, "the second tower live"
    )
    fleet.until(lambda: not waiting(fleet), "the end of the messages")
    claims = sum(note.rest.endswith(" backfill") for note in fleet.injection.noted("claims"))
    result.require(claims == due, f"{claims} claims of {due} batches that fill a tower")
    result.note += f", {deliveries} where {due} were due to fill a second tower"


def multiply(fleet: Fleet, lane: str, *, at_least: int) -> int:
    """Repeat and shuffle the messages that wait on a lane, once there are enough; how many there are then."""
    key = fleet.lanes.key(lane)
    with fleet.lanes.redis() as broker:
        fleet.until(lambda: broker.llen(key) >= at_least, f"{at_least} messages on the lane {lane}")
        copies = [retagged(message) for message in broker.lrange(key, 0, -1) for _ in range(TIMES)]
        random.Random(0).shuffle(copies)
        with broker.pipeline() as pipeline:
            pipeline.delete(key).rpush(key, *copies).execute()
    return len(copies)


def retagged(message: bytes) -> str:
    """The same message as another delivery."""
    read = json.loads(message)
    read["properties"]["delivery_tag"] = str(uuid.uuid4())
    return json.dumps(read)


def outlive(fleet: Fleet, at: int) -> dict[str, bytes]:
    """Stop a holder until another has its batch, or has finished it: both in turn; then let it go on."""
    fleet.injection.slow_down(1.5)
    pictures = noise(50, seed=1000 + at, prefix=f"outlived-{at}/")
    job = fleet.application.embed(pictures)
    row = fleet.until(lambda: fleet.ledger.rows(_HELD, job=job), "a holder")[0]
    holder = next(member for member in embedders(fleet) if row.worker in member.holders())
    frozen = fleet.faults.freeze(holder.name)
    if at % 2:
        fleet.ledger.settled(job)
    else:
        fleet.until(lambda: fleet.ledger.one(_TAKEN, job=job, worker=row.worker), "another holder")
    fleet.faults.thaw(frozen)
    fleet.ledger.settled(job)
    told = f"the lease of batch {row.id} is lost"
    fleet.until(
        lambda: told in holder.log.read_text(errors="replace"), f"a fence for the former holder of batch {row.id}"
    )
    return digests(pictures)


_HELD = "SELECT id, worker FROM batches WHERE job = CAST(:job AS uuid) AND state = 'leased'"
_TAKEN = "SELECT count(*) FROM batches WHERE job = CAST(:job AS uuid) AND state = 'leased' AND worker <> :worker"


def embedders(fleet: Fleet) -> list[Any]:
    return [member for name, member in fleet.members.items() if name.startswith("embedder")]


def waiting(fleet: Fleet) -> int:
    """Messages that are not acknowledged."""
    with fleet.lanes.redis() as broker:
        unacknowledged = broker.hlen(fleet.lanes.key("unacked"))
        return int(unacknowledged + sum(broker.llen(fleet.lanes.key(lane)) for lane in LANES))
