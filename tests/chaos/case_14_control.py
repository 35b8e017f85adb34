"""The control: a naive Celery task with late acknowledgement under the faults of cases 1 and 2. It has to lose some."""

import time
from collections import Counter
from typing import Any

from sqlalchemy import text

from tests.chaos import naive
from tests.chaos.application import CHUNK, Sending
from tests.chaos.fleet import Fleet
from tests.chaos.killing import SECONDS, Killer
from tests.chaos.pictures import Pictures, noise
from tests.chaos.result import Result

# as many kills as hit the embedders in case 1
LONG: dict[str, Any] = {"digits": 50_000, "kills": 140, "frozen": 10, "kills_cost": True}
SHORT: dict[str, Any] = {"digits": 1_500, "kills": 3, "frozen": 2, "kills_cost": False}

WORKER = ("-m", "celery", "-A", "tests.chaos.naive", "worker", "--concurrency", "1", "--loglevel", "INFO")
TABLE = "CREATE TABLE control (key text PRIMARY KEY, pixels bytea, vector vector(128), runs int)"
WEIGHTS = {"naive-1": 0.5, "naive-2": 0.5}


def run(*, digits: int, kills: int, frozen: int, kills_cost: bool) -> Result:
    """kills_cost: whether the kills alone have to lose something: a few may hit no process that holds a task."""
    result = Result(case=14, name="control: a naive Celery task", faults="")
    pictures = noise(digits)
    result.images = digits + 10 * frozen
    with Fleet({}) as fleet:
        with fleet.engine.begin() as connection:
            connection.execute(text(TABLE))
        add(fleet, pictures)
        for name in WEIGHTS:
            fleet.add(name, command=(*WORKER, "--hostname", f"{name}@%h", "--without-gossip", "--without-mingle"))
        killer = Killer(fleet, WEIGHTS, kills=kills, every=1.2)
        sending = Sending(lambda: publish(fleet, list(pictures), killer))
        killer.run()
        sending.result(within=300)
        fleet.until(lambda: not waiting(fleet), "an empty broker", within=300)
        by_kills = missing(fleet)
        by_victim = last_holders(fleet, list(pictures))
        swallowed = sum(freeze(fleet, at) for at in range(frozen))
        result.lost = missing(fleet)
        twice = fleet.ledger.one("SELECT count(*) FROM control WHERE runs > 1")
    by_kind = ", ".join(f"{killer.done[what]} {name}" for what, name in Killer.KINDS.items())
    result.faults = f"{killer.done.total()} kill -9, {frozen} frozen and killed"
    result.note = (
        f"killed {by_kind}; {CHUNK} digits a task, task_acks_late without task_reject_on_worker_lost (of a killed pool "
        f"process the parent acknowledges the message), prefetch 1, visibility {naive.VISIBILITY} s; lost for good, "
        f"with the broker empty: {by_kills:,} digits by the kills ({shares(by_victim)}), {swallowed} of {frozen} "
        f"messages by freezing; {twice:,} digits were embedded more than once. It passes if it loses"
    )
    result.require(by_kills or not kills_cost, "the kills alone cost the control nothing: they are too mild")
    result.require(result.lost, "the control lost nothing: the faults are too mild")
    return result


def add(fleet: Fleet, pictures: Pictures) -> None:
    """Store what the control reads, beside the ledger."""
    with fleet.engine.begin() as connection:
        rows = [{"key": key, "pixels": glyph.tobytes()} for key, glyph in pictures.items()]
        connection.execute(text("INSERT INTO control VALUES (:key, :pixels, NULL, 0)"), rows)


def publish(fleet: Fleet, keys: list[str], killer: Killer) -> str:
    """Send a message for every small batch, no faster than the killer kills."""
    naive.app.conf.update(broker_url=fleet.broker.url)
    pace = killer.pace(len(keys))
    for start in range(0, len(keys), CHUNK):
        pace(start)
        naive.app.send_task(naive.TASK, (keys[start : start + CHUNK], SECONDS), task_id=keys[start])
    return ""


def last_holders(fleet: Fleet, keys: list[str]) -> Counter[str]:
    """Digits without a vector, by what was killed when their task was last begun: tree, parent, child or nothing."""
    lost = {row.key for row in fleet.ledger.rows("SELECT key FROM control WHERE vector IS NULL")}
    last = {note.rest: str(note.pid) for note in fleet.injection.noted("begun")}
    killed = {
        holder.rpartition(":")[2]: fault.what.split()[0] for fault in fleet.faults.noted for holder in fault.holders
    }
    digits: Counter[str] = Counter()
    for start in range(0, len(keys), CHUNK):
        digits[killed.get(last.get(keys[start], ""), "")] += len(lost.intersection(keys[start : start + CHUNK]))
    return digits


def shares(digits: Counter[str]) -> str:
    """As "64 with pool processes"."""
    named = [(digits[what], f"with {name}") for what, name in Killer.KINDS.items()]
    return ", ".join(f"{count:,} {how}" for count, how in [*named, (digits[""], "never begun")])


def freeze(fleet: Fleet, at: int) -> bool:
    """Freeze an idle worker, send it one message, kill it; whether the message is lost."""
    pictures = noise(10, seed=1 + at, prefix=f"frozen-{at}/")
    add(fleet, pictures)
    fleet.members["naive-2"].rest()
    fleet.until(lambda: fleet.lanes.idle("naive-1"), "an idle worker")
    before = missing(fleet) - len(pictures)
    fleet.faults.freeze("naive-1")
    naive.app.send_task(naive.TASK, (list(pictures), 0))
    fleet.faults.kill("naive-1")
    fleet.until(lambda: fleet.lanes.idle("naive-1") and not waiting(fleet), "an empty broker")
    time.sleep(0.5)  # that an answer could be written in, if there was a message
    return missing(fleet) > before


def missing(fleet: Fleet) -> int:
    """Digits without a vector."""
    return int(fleet.ledger.one("SELECT count(*) FROM control WHERE vector IS NULL"))


def waiting(fleet: Fleet) -> int:
    """Messages in the broker: on the lane, or handed out and not acknowledged. What is in neither is gone."""
    with fleet.lanes.redis() as broker:
        return int(broker.llen("celery") + broker.hlen("unacked"))
