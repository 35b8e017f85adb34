"""The database is restored from a backup that is older than what clients were told and the broker's messages."""

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from local.servers import postgres
from tests.chaos.application import Sending
from tests.chaos.case_04_database import Share
from tests.chaos.doctor import ask_doctor
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result
from twinvec_client import EmbedJob, PicturesLost, UnknownJob

LONG: dict[str, Any] = {"digits": 6_400}
SHORT: dict[str, Any] = {"digits": 640}

LATEST = 30.0  # seconds from the database's return to the next finished batch
CHUNK = 20  # pictures
RECEIPTS = 20  # chunks of a job that are accepted when it is hurt: more than its client keeps, which is 16


def run(*, digits: int) -> Result:
    """digits: of each of three jobs: before the backup, after it, and under way when it is restored."""
    result = Result(case=22, name="database restored from a backup", faults="1 restored", images=3 * digits)
    before, after, under_way = (noise(digits, seed) for seed in range(3))
    with Fleet() as fleet:
        send(fleet, "before", before).result()
        fleet.ledger.settled()
        back_up(fleet)
        lost = send(fleet, "after", after).result()
        fleet.ledger.settled()
        done = fleet.ledger.done()
        fleet.injection.slow_down(0.3)
        share = Share(digits)
        share.grow(0.8)
        told: list[PicturesLost] = []
        sending = send(fleet, "under way", under_way, told=told, pace=share.wait)
        fleet.until(
            lambda: fleet.ledger.reaches(done + digits // 8) and accepted(fleet) >= RECEIPTS, "the middle of it"
        )
        restore(fleet)
        back = fleet.faults.note("database back")
        share.grow(1)
        ask_doctor(fleet).judge(result, "after the backup was restored")
        sending.result(180)
        fleet.ledger.settled(within=120)
        result.recovery = next_finish(fleet, [back])
        result.require(told, "the client whose accepted pictures were gone was not told")
        result.require(is_unknown(fleet, lost), "a job that the backup does not have is not said to be unknown")
        send(fleet, "after", after).result()
        fleet.ledger.settled(within=120)
        for collection, pictures in (("before", before), ("after", after), ("under way", under_way)):
            judge(fleet, digests(pictures), collection=collection).write(result)
        stored = fleet.ledger.one("SELECT count(*) FROM digits")
        result.require(stored == 3 * digits, f"{stored} digits where {3 * digits} were sent")
        result.extra_work = extra_work(fleet)
    result.require(result.recovery, "nothing was left to do after it")
    result.require(all(each <= LATEST for each in result.recovery), f"resumed late: {result.recovery} s")
    result.note = (
        f"{CHUNK} digits a batch; the broker kept its messages; a client that was sending was told that pictures which "
        "it had receipts for were gone, one that asked for its ended job that it is unknown, and both sent again under "
        "the same keys; recovery is the time from the database's return to the next finished batch"
    )
    return result


def send(
    fleet: Fleet, key: str, pictures: Mapping[str, Any], *, told: list[PicturesLost] | None = None, **more: Any
) -> Sending:
    """Have a client send pictures under a key, to a collection of that name; again where it is told that they are lost.

    told: what it was told.
    """

    def until_told_no_more() -> str:
        while True:
            try:
                return fleet.application.embed(pictures, key=key, collection=key, chunk=CHUNK, **more)
            except PicturesLost as error:
                if told is None:
                    raise
                told.append(error)

    return Sending(until_told_no_more)


def accepted(fleet: Fleet) -> int:
    """Chunks of the job under way."""
    query = "SELECT count(*) FROM batches JOIN jobs ON jobs.id = job WHERE collection = 'under way'"
    return int(fleet.ledger.one(query))


def back_up(fleet: Fleet) -> None:
    """Copy the running database, as a backup does."""
    command = [str(postgres._binaries() / "pg_basebackup"), "-D", str(fleet.home / "backup"), "--checkpoint=fast"]
    command += ["-h", str(fleet.database._sockets()), "-U", "postgres"]
    fleet.database._own(fleet.home / "backup")
    user = fleet.database.user
    subprocess.run(command, check=True, capture_output=True, user=user, group=user, cwd="/")


def restore(fleet: Fleet) -> None:
    """Put the copy in the database's place, and start from it."""
    fleet.faults.stop_database()
    shutil.rmtree(fleet.database.folder)
    (fleet.home / "backup").rename(fleet.database.folder)
    for copied in fleet.database.folder.glob(".s.PGSQL.*"):
        copied.unlink()
    fleet.database.start()


def is_unknown(fleet: Fleet, job: str) -> bool:
    try:
        found = fleet.application.client().job(job)
        assert isinstance(found, EmbedJob)
        found.wait(timeout=1)
    except UnknownJob:
        return True
    return False
