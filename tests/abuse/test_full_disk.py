"""The disk of a home is full while `twinvec up` works on a job: the supervisor outlives it, `doctor` says so, and with
room again all goes on by itself, nothing lost."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine

from local.servers.process import alive
from tests.chaos.application import Sending
from tests.chaos.disk import Mounted, small_disk
from tests.chaos.injection import Injection
from tests.chaos.ledger import Ledger
from tests.chaos.oracle import Verdict, judge
from tests.chaos.pictures import digests, noise
from tests.chaos.towers import register
from tests.lacking import lacking
from tests.stack.conftest import Stack, make_stack, until
from twinvec_client import Twinvec
from twinvec_client.errors import TwinvecError

DIGITS = 1_000
ANSWERED = 10.0  # seconds within which an honest caller is answered once there is room
ROOM = 256 * 2**20  # bytes, of which a new database takes a quarter

pytestmark = [pytest.mark.usefixtures("costly"), pytest.mark.proof]


@dataclass
class Working:
    """A stack on a small disk of its own, with a tower that is a matrix product."""

    stack: Stack
    disk: Mounted
    engine: Engine
    ledger: Ledger
    injection: Injection

    def problems(self) -> list[str]:
        """What `twinvec doctor` finds wrong, in its words; not of the backend, which takes it long to load."""
        environment = self.stack.environment | {"KERAS_BACKEND": "none"}
        answer = self.stack.command("doctor", "--json", check=False, environment=environment).stdout
        found = [each for each in json.loads(answer) if each["part"] != "backend"]
        return [f"{each['part']}: {each['found']}" for each in found if each["level"] == "problem"]

    def embed(self, pictures: Any) -> Sending:
        client = self.stack.client()
        client.chunk, client.resend_after, client.outage = 64, 2, 120
        return Sending(lambda: client.embed(pictures).id)


@pytest.fixture
def working(costly: None, tmp_path: Path) -> Iterator[Working]:
    injection = Injection(tmp_path)
    injection.prepare()
    with small_disk(ROOM) as disk:
        if not isinstance(disk, Mounted):
            lacking("root, who may mount a file system")
        stack = make_stack(disk.folder / "home", **injection.environment(), CHAOS_TOWER="stand-in")
        try:
            stack.up()
            engine = stack.engine()
            register(engine)
            yield Working(stack, disk, engine, Ledger(engine, injection.check), injection)
            engine.dispose()
        finally:
            stack.command("down", "--now", check=False)


def test_a_stack_whose_disk_is_full_goes_on_when_there_is_room(working: Working) -> None:
    stack, ledger, pictures = working.stack, working.ledger, noise(DIGITS)
    supervisor = psutil.Process(stack.noted["supervisor"])
    embedder = psutil.Process(stack.noted["workers"]["embedder"])
    working.injection.slow_down(0.1)
    sending = working.embed(pictures)
    until(lambda: ledger.done() > 100, "some digits")
    working.disk.fill(psutil.Process())
    embedder.kill()
    until((stack.home / "run.json.unfinished").exists, "the note of another embedder, for which there is no room")
    assert any("only 0 MB are free" in problem for problem in working.problems())
    assert alive(supervisor)

    working.disk.make_room(None)
    until(lambda: answered(stack.client()), "an answer to an honest caller", within=ANSWERED)
    ledger.settled(sending.result(within=120))
    verdict = judge(working, digests(pictures))
    assert verdict == Verdict(embedded=DIGITS)
    until(lambda: noted(stack)["workers"]["embedder"] != embedder.pid, "the other embedder in run.json")
    assert alive(supervisor)
    small = "home: only "  # the disk is what it was
    until(lambda: all(problem.startswith(small) for problem in working.problems()), "no other problem any more")


def answered(client: Twinvec) -> bool:
    with suppress(TwinvecError):
        return bool(client.jobs())
    return False


def noted(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((stack.home / "run.json").read_text())
    return found
