"""Applications that are killed while they submit and submit again, and two that submit the same at once."""

import signal
from typing import Any

from tests.chaos import sender
from tests.chaos.application import CHUNK
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import extra_work, judge
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"count": 20_000, "kills": 10}
SHORT: dict[str, Any] = {"count": 1_500, "kills": 1}


def run(*, count: int, kills: int) -> Result:
    result = Result(case=9, name="clients killed, and two at once", faults=f"{kills} clients killed, 1 pair at once")
    sent = digests(noise(count))
    with Fleet() as fleet:
        killed_at = submit_and_die(fleet, "killed", count, kills)
        finish(sender.start(fleet.broker.url, "killed", count, CHUNK, "killed"))
        result.require(len(killed_at) == kills, f"only {len(killed_at)} clients were killed while they submitted")
        twins = [sender.start(fleet.broker.url, "twins", count, CHUNK, "twins") for _ in range(2)]
        for client in twins:
            finish(client)
        jobs = fleet.ledger.rows("SELECT id, collection, total FROM jobs WHERE kind = 'embed' ORDER BY collection")
        fleet.ledger.settled(*(str(job.id) for job in jobs))
        told = [(job.collection, job.total) for job in jobs]
        result.require(told == [("killed", count), ("twins", count)], f"the jobs are {told}")
        for collection in ("killed", "twins"):
            verdict = judge(fleet, sent, collection=collection)
            verdict.write(result)
            result.require(verdict.embedded == count, f"{collection}: {verdict.embedded} of {count} embedded")
        result.extra_work = extra_work(fleet)
    result.images = 2 * count
    result.note = f"killed when {', '.join(f'{at:,}' for at in killed_at)} of {count:,} were accepted"
    return result


def submit_and_die(fleet: Fleet, key: str, count: int, kills: int) -> list[int]:
    """Kill client after client, each a little further on; how many pictures had been accepted each time."""
    killed_at = []
    for kill in range(kills):
        client = sender.start(fleet.broker.url, key, count, CHUNK, key)
        enough = count * (kill + 1) // (kills + 2)

        def is_time(client: Any = client, enough: int = enough) -> bool:
            return accepted(fleet, key) >= enough or client.poll() is not None

        fleet.until(is_time, f"a client that has sent {enough:,}")
        client.send_signal(signal.SIGKILL)
        if client.wait() == -signal.SIGKILL:
            killed_at.append(accepted(fleet, key))
    return killed_at


def accepted(fleet: Fleet, collection: str) -> int:
    """Pictures of a collection whose chunks stand in SQL."""
    query = "SELECT coalesce(sum(items), 0) FROM batches JOIN jobs ON jobs.id = job WHERE collection = :collection"
    return int(fleet.ledger.one(query, collection=collection))


def finish(client: Any) -> None:
    """Wait for a client to end well."""
    status = client.wait(300)
    assert status == 0, f"a client ended with status {status}"
