"""A long fuzz, with its seeds: spoilt pictures through the guarded process, spoilt messages through the gate of a lane.

`python -m tests.abuse --pictures 100000 --messages 10000 --seed 1`. Each line of its answer is a count. It ends with
status 1 where a picture or a message came to anything but being read or refused, or an honest one was not read.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter

from tests.abuse.envelopes import envelope, spoil
from tests.abuse.pictures import drawn, fax, written
from training.errors import PictureError
from training.pictures.sandbox import Decoder
from twinvec_client.contract import messages as contract
from twinvec_client.contract.broker import KEY_PREFIX
from worker.admission import NotAdmitted, admit

MESSAGES = [each for each in vars(contract).values() if hasattr(each, "task") and hasattr(each, "lane")]
HONEST = [
    fax(64),
    *(written(drawn(64), format) for format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")),
    written(drawn(64), "JPEG", progressive=True),
    written(drawn(64).convert("RGBA"), "PNG"),
    written(drawn(64).convert("P"), "GIF"),
]
EVERY = 50  # spoilt ones, after which an honest one is asked for


def main() -> int:
    """Exit status."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pictures", type=int, default=1000)
    options.add_argument("--messages", type=int, default=1000, help="on each lane")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=float("inf"), help="for the pictures, at most")
    asked = options.parse_args()
    started = time.monotonic()
    came_to, wrong = pictures(asked.pictures, random.Random(asked.seed), started + asked.seconds)
    print(f"pictures, seed {asked.seed}, {time.monotonic() - started:.1f} s: {dict(came_to)}, wrong {wrong}")
    for lane in sorted({message.lane for message in MESSAGES}):
        started = time.monotonic()
        said, bad = messages(lane, asked.messages, random.Random(f"{asked.seed} {lane}"))
        wrong += bad
        print(f"messages on {lane}, {time.monotonic() - started:.1f} s: {dict(said)}, wrong {bad}")
    return int(wrong > 0)


def pictures(count: int, dice: random.Random, until: float) -> tuple[Counter[str], int]:
    """What came of spoilt pictures, by reason; and how many honest ones between them were not read."""
    came_to, wrong = Counter[str](), 0
    decoders = {normalise: Decoder(normalise, together=float("inf")) for normalise in (True, False)}
    try:
        for at in range(count):
            if time.monotonic() > until:
                break
            try:
                decoders[dice.random() < 0.9].read(spoilt(dice.choice(HONEST), dice))
                came_to["read"] += 1
            except PictureError as error:
                came_to[error.reason] += 1
            if at % EVERY == 0:
                try:
                    decoders[True].read(HONEST[at // EVERY % len(HONEST)])
                except PictureError:
                    wrong += 1
    finally:
        for decoder in decoders.values():
            decoder.end()
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
