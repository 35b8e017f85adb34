"""A database that is far away is waited for a few times for each chunk, and for each batch."""

import socket
import threading
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg.waiting import Wait

from db.digits import pixels_of
from db.engine import LimitedConnection, connect, transact
from db.queue import finish as finishing
from db.queue import intake, leases, turns
from db.states import JobKind
from db.vectors.frames import FRAMES
from tests.makers import MAX_ATTEMPTS, Ledger, batch_of, chunk, computed, item

Count = Callable[[Callable[..., Any]], tuple[Any, int]]


@pytest.fixture
def journeys(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Count]:
    """Does something with a ledger, and counts how often an answer is waited for. What the server says is held back
    until the client waits for it and sends no more before."""
    count, wait, heard = 0, LimitedConnection.wait, threading.Event()
    heard.set()

    def watched(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        nonlocal count
        heard.clear()
        ready = None
        try:
            while True:
                step = steps.send(ready)
                if step != Wait.R:
                    heard.clear()
                elif not heard.is_set():
                    count += 1
                    heard.set()
                ready = yield step
        except StopIteration as ended:
            return ended.value

    def listen(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, far = server.accept()[0], socket.socket(socket.AF_UNIX)
                far.connect(f"{engine.url.query['host']}/{name}")
                for ends, gate in (((near, far), None), ((far, near), heard)):
                    threading.Thread(target=carry, args=(*ends, gate), daemon=True).start()

    def carry(source: socket.socket, target: socket.socket, gate: threading.Event | None) -> None:
        with source, target, suppress(OSError):
            while sent := source.recv(2**16):
                if gate is not None:
                    gate.wait()
                target.sendall(sent)

    def counted(work: Callable[..., Any]) -> tuple[Any, int]:
        nonlocal count
        count = 0
        return work(partial(transact, near)), count

    engine, name = ledger.args[0], ".s.PGSQL.5432"  # type: ignore[attr-defined]  # it is a partial one
    monkeypatch.setattr(LimitedConnection, "wait", lambda self, steps, *limits: wait(self, watched(steps), *limits))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / name))
        server.listen()
        threading.Thread(target=listen, args=(server,), daemon=True).start()
        near = connect(engine.url.update_query_dict({"host": str(tmp_path)}).render_as_string(hide_password=False))
        counted(lambda ledger: ledger(turns.oldest, JobKind.EMBED))  # it has a connection now
        yield counted
        near.dispose()
        heard.set()
        server.shutdown(socket.SHUT_RDWR)


def test_a_chunk_is_stored_in_three_journeys(tower: int, journeys: Count) -> None:
    job = uuid.uuid4()
    for seq in range(2):
        sent = chunk(item(f"a{seq}", seq), item(f"b{seq}", seq), job=job, seq=seq, open=True)
        accepted, count = journeys(lambda ledger, sent=sent: ledger(intake.accept, sent, ends=True))
        assert accepted.batch is not None
        assert count == 3


def test_a_batch_is_claimed_and_read_in_three_journeys_and_finished_in_three(
    ledger: Ledger, tower: int, journeys: Count
) -> None:
    by: dict[str, Any] = {"worker": "worker", "lease": 60.0, "max_attempts": MAX_ATTEMPTS, "ends": True}
    for seed in range(2):
        batch = batch_of(ledger, item(f"a{seed}", seed))
        due, asked = journeys(lambda ledger: ledger(turns.oldest, JobKind.EMBED))
        assert [each.batch for each in due] == [batch]
        lease, claimed = journeys(lambda ledger, batch=batch: ledger(leases.claim, batch, **by))
        _, read = journeys(lambda ledger, lease=lease: ledger(pixels_of, lease.digits, ends=True))
        assert (asked, claimed, read) == (2, 1, 1)  # the first one begins and ends with nothing else here
        told = ([lease], *computed(ledger, lease), {"tower": 0.5})
        ledger(FRAMES.of, tower)  # as a process remembers it that embeds
        count, finished = journeys(lambda ledger, told=told: ledger(finishing.finish, *told, ends=True))
        assert (count, finished) == (1, 3)
