"""A long fuzz, with its seeds, and what costly pictures come to: on this process, and on real workers.

`python -m tests.abuse --pictures 100000 --messages 10000 --seed 1` gives spoilt pictures to the guarded process, and
spoilt messages to the gate of each lane. `--workers 10000` sends as many on each lane of real workers, with honest
calls between; `--fax 1000` has as many honest scans embedded; `--costly` looks JPEGs of many scans up and has them
embedded, beside an honest caller. Each line of its answer is a count. It ends with status 1 where a picture or a
message came to anything but being read or refused, an honest one was not read or answered, a process died, or a digit
was lost.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections import Counter

from tests.abuse import real_workers
from tests.abuse.envelopes import envelope, spoil
from tests.abuse.pictures import drawn, fax, large_jpeg, written
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import Verdict
from tests.chaos.pictures import noise
from training.errors import PictureError
from training.pictures.read import MAX_SCANS
from training.pictures.sandbox import sandbox
from twinvec_client import Twinvec
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.messages import MESSAGES
from worker.admission import NotAdmitted, admit

HONEST = [
    fax(64),
    *(written(drawn(64), format) for format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")),
    written(drawn(64), "JPEG", progressive=True),
    written(drawn(64).convert("RGBA"), "PNG"),
    written(drawn(64).convert("P"), "GIF"),
]
PICTURES_CREW = {"front": "query,control,express", "intake": "intake", "embedder": "embed,backfill,train"}
EVERY = 50  # spoilt ones, after which an honest one is asked for


def main() -> int:
    """Exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pictures", type=int, default=0, help="through the guarded process")
    options.add_argument("--messages", type=int, default=0, help="on the gate of each lane")
    options.add_argument("--workers", type=int, default=0, help="messages on each lane of real workers")
    options.add_argument("--fax", type=int, default=0, help="scans for real workers")
    options.add_argument("--costly", action="store_true", help="costly JPEGs for real workers")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=float("inf"), help="for the pictures, at most")
    asked = options.parse_args()
    wrong = 0
    if asked.pictures:
        started = time.monotonic()
        came_to, wrong = pictures(asked.pictures, random.Random(asked.seed), started + asked.seconds)
        print(f"pictures, seed {asked.seed}, {time.monotonic() - started:.1f} s: {dict(came_to)}, wrong {wrong}")
    if asked.messages:
        for lane in sorted({message.lane for message in MESSAGES}):
            started = time.monotonic()
            said, bad = messages(lane, asked.messages, random.Random(f"{asked.seed} {lane}"))
            wrong += bad
            print(f"messages on {lane}, {time.monotonic() - started:.1f} s: {dict(said)}, wrong {bad}")
    if asked.workers:
        wrong += fuzz_workers(asked.workers, asked.seed)
    if asked.fax or asked.costly:
        wrong += real_pictures(asked.fax, costly=asked.costly)
    return int(wrong > 0)


def fuzz_workers(count: int, seed: int) -> int:
    """How much went wrong."""
    started = time.monotonic()
    with Fleet(real_workers.CREW) as fleet:
        found = real_workers.fuzz(fleet, count, seed, say=print)
    verdict = found.verdict
    print(f"messages to real workers, seed {seed}, {time.monotonic() - started:.0f} s: {found.messages}")
    print(
        f"honest calls between: {len(found.waits)}, median {statistics.median(found.waits):.2f} s, "
        f"slowest {max(found.waits):.2f} s; {verdict.embedded} of {found.sent} digits embedded, "
        f"{len(verdict.lost)} lost, {len(verdict.duplicated)} twice, {len(verdict.wrong)} wrong; "
        f"died: {found.died or 'none'}; raised: {found.raised[:5] or 'nothing'}; "
        f"logs of {found.logged / 1e6:.1f} MB"
    )
    return int(bool(found.died)) + len(found.raised) + int(verdict != Verdict(embedded=found.sent))


def real_pictures(scans: int, *, costly: bool) -> int:
    """How much went wrong."""
    wrong = 0
    with Fleet(PICTURES_CREW, tower="real") as fleet:
        Twinvec(fleet.broker.url).embed(noise(100, prefix="known/")).wait(timeout=60)
        if scans:
            seconds, embedded, refused = real_workers.faxes(fleet, scans)
            print(f"{scans} scans of a fax: {seconds:.1f} s, {embedded} embedded, {refused} refused")
            wrong += refused
        for name, scans_of_it in (("as many scans as 10 MB hold", None), (f"{MAX_SCANS} scans", MAX_SCANS)):
            picture = large_jpeg(scans_of_it)
            for how in (real_workers.look_up, real_workers.embed) if costly else ():
                found = how(fleet, picture, "known/000000")
                print(f"{how.__name__}, {len(picture):,} bytes, {name}: {found}")
                wrong += found.unanswered
        wrong += sum(member.starts - 1 for member in fleet.members.values())
    return wrong


def pictures(count: int, dice: random.Random, until: float) -> tuple[Counter[str], int]:
    """What came of spoilt pictures, by reason; and how many honest ones between them were not read."""
    came_to, wrong = Counter[str](), 0
    for start in range(0, count, EVERY):
        if time.monotonic() > until:
            break
        some = [spoilt(dice.choice(HONEST), dice) for _ in range(min(EVERY, count - start))]
        outcomes = sandbox().read(some, normalise=dice.random() < 0.9, seconds=math.inf)
        came_to.update(outcome.reason if isinstance(outcome, PictureError) else "read" for outcome in outcomes)
        (honest,) = sandbox().read([HONEST[start // EVERY % len(HONEST)]], normalise=True)
        wrong += isinstance(honest, PictureError)
    return came_to, wrong


def spoilt(picture: bytes, dice: random.Random) -> bytes:
    """A picture with one to eight faults: bytes changed, cut, doubled, or taken from another."""
    content = bytearray(picture)
    for _ in range(dice.randint(1, 8)):
        at, length = dice.randrange(len(content) or 1), dice.choice([1, 1, 2, 4, 30])
        match dice.randrange(5):
            case 0 | 1:
                content[at : at + length] = dice.randbytes(length)
            case 2:
                content[at : at + length] = dice.choice([b"\0", b"\xff", b"\x7f"]) * length
            case 3:
                content[at:at] = content[at : at + 8 * length]
            case _:
                content[at : at + length] = dice.choice(HONEST)[at : at + length]
    return bytes(content[: dice.randrange(len(content))] if dice.random() < 0.1 else content)


def messages(lane: str, count: int, dice: random.Random) -> tuple[Counter[str], int]:
    """What the gate of a lane made of spoilt messages; and how many honest ones between them it refused."""
    said, wrong = Counter[str](), 0
    tasks = [message.task for message in MESSAGES if message.lane == lane]
    for at in range(count):
        honest = envelope(dice.choice(tasks), lane)
        try:
            admit(json.loads(spoil(honest, dice)), lane, KEY_PREFIX)
            said["admitted"] += 1
        except NotAdmitted:
            said["set aside"] += 1
        except (ValueError, RecursionError):
            said["not JSON"] += 1
        if at % EVERY == 0:
            try:
                admit(honest, lane, KEY_PREFIX)
            except NotAdmitted:
                wrong += 1
    return said, wrong


if __name__ == "__main__":
    sys.exit(main())
