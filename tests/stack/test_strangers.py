"""What others may do beside an honest caller on a running stack: he is answered in time, and doctor tells the truth."""

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.abuse.strings import OBEYED
from tests.stack.conftest import Stack, until
from twinvec_client import Callback, Twinvec
from twinvec_client.errors import TwinvecError

Digits = tuple[np.ndarray, np.ndarray]

NAMES = [f"stranger {at}{obeyed}forged  finished" for at, obeyed in enumerate((*OBEYED, "\n", ":100:", "[/red]"))]
HELD = 12  # callbacks that nobody takes


@pytest.fixture(autouse=True)
def served(stack: Stack, tower: Any, digits: Digits) -> Any:
    """After each case an honest caller is served in time."""
    yield
    honest(stack, digits)


def honest(stack: Stack, digits: Digits) -> None:
    """Stores a digit and looks it up, each within 10 s."""
    tv, key = stack.client(), f"honest/{uuid.uuid4()}"
    start = time.monotonic()
    assert tv.embed({key: digits[0][0]}, collection="honest").wait(timeout=10).succeeded == 1
    assert tv.nearest(digits[0][0], collection="honest").neighbours
    assert time.monotonic() - start < 20


def problems(stack: Stack) -> list[str]:
    said = json.loads(stack.command("doctor", "--json", check=False).stdout)
    return [f"{each['part']}: {each['found']}" for each in said if each["level"] == "problem"]


def test_names_that_a_terminal_would_obey_reach_neither_a_terminal_nor_a_log(stack: Stack, digits: Digits) -> None:
    images, _ = digits
    tv = stack.client()
    taken = {name: images[at] for at, name in enumerate(NAMES)}
    attributes = {name: {"by": name} for name in NAMES}
    sent, told = taken | {f"{NAMES[0]} bad": b"\x1b[2J"}, Callback("a\nforged task", queue="a\x1b[2Jqueue")
    job = tv.embed(sent, collection="strangers", attributes=attributes, on_finish=told)
    assert job.wait(timeout=60).failed == 2, "the picture that is none, and the key that no database holds"
    for command in (
        ("list", "--collection", "strangers"),
        ("failures", job.id),
        ("job", job.id),
        ("get", NAMES[1], "--collection", "strangers"),
        ("nearest", "--key", NAMES[2], "--collection", "strangers"),
        ("doctor",),
    ):
        for more in ((), ("--json",)) if command[0] in ("list", "failures") else ((),):
            done = stack.command(*command, *more, check=False)
            assert "stranger" in done.stdout or command == ("doctor",), done.stderr
            assert command != ("doctor",) or not done.returncode, done.stderr
            obeyed = [each for each in OBEYED if each in done.stdout + done.stderr]
            assert not obeyed, f"{command}: {done.stdout!r}"
            assert not [line for line in done.stdout.splitlines() if line.startswith("forged")]
    for log in (stack.home / "logs").glob("*.log"):
        text = log.read_text()
        assert not [each for each in OBEYED if each in text], log
        assert "\nforged" not in text, log
    tv.delete_collection("strangers")


def test_callers_with_the_same_names_get_each_their_own(stack: Stack, digits: Digits) -> None:
    """One key of idempotency, one key of a picture, several collections, all at once."""
    images, _ = digits
    again = str(uuid.uuid4())
    callers = [f"caller-{at}" for at in range(4)]
    gate = threading.Barrier(len(callers))

    def send(at: int) -> str:
        gate.wait(30)
        sent = {"same": images[at], f"own {at}": images[at + 10]}
        job = stack.client().embed(sent, collection=callers[at], idempotency_key=again)
        assert job.wait(timeout=60).succeeded == 2
        return job.id

    with ThreadPoolExecutor(len(callers)) as threads:
        jobs = list(threads.map(send, range(len(callers))))
    assert len(set(jobs)) == len(callers)
    assert problems(stack) == []
    tv = stack.client()
    for at, caller in enumerate(callers):
        (nearest,) = tv.nearest(images[at], collection=caller, k=1).neighbours
        assert nearest.key == "same"
        assert nearest.distance == pytest.approx(0, abs=1e-6)
    with pytest.raises(TwinvecError, match="idempotency"):
        tv.embed({"same": images[30]}, collection=callers[0], idempotency_key=again)
    assert tv.delete_collection(callers[1]).digits == 2
    kept = {each.name: each.digits for each in tv.collections() if each.name in callers}
    assert kept == {caller: 2 for caller in callers if caller != callers[1]}
    for caller in callers:
        tv.delete_collection(caller)


def test_a_transaction_that_is_left_open_holds_up_nobody(stack: Stack, digits: Digits) -> None:
    """Somebody looks at every table, in a transaction that sees all as it was, and goes to lunch."""
    tables = "digits, embeddings, towers, jobs, batches, failures, judgements"
    with psycopg.connect(stack.noted["database_url"]) as open_:
        open_.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in tables.split(", "):
            open_.execute(f"SELECT count(*) FROM {table}")
        honest(stack, digits)
        tv = stack.client()
        tv.embed({"lunch": digits[0][1]}, collection="lunch").wait(timeout=10)
        assert tv.delete_collection("lunch").digits == 1
        assert problems(stack) == []
        open_.rollback()


def test_what_nobody_takes_or_ends_is_waited_for_by_nobody(stack: Stack, digits: Digits) -> None:
    """Callbacks to queues without workers, a job sent by half, one whose collection goes while it is followed."""
    images, _ = digits
    tv = stack.client()
    for at in range(HELD):
        tv.embed(
            {f"held {at}": images[at]}, collection="held", on_finish=Callback("gone.task", queue=f"gone-{at}")
        ).wait(timeout=10)

    def half() -> Any:
        yield "half", images[0]
        raise KeyError("the stream ends in an error")

    with pytest.raises(KeyError):
        tv.embed(half(), collection="held")
    honest(stack, digits)
    assert problems(stack) == []
    job = tv.embed({f"gone {at}": image for at, image in enumerate(images)}, collection="gone")
    followed: list[Any] = []
    following = threading.Thread(target=lambda: followed.extend(Twinvec(stack.broker_url).job(job.id).follow()))
    following.start()
    tv.delete_collection("gone")
    following.join(30)
    assert not following.is_alive(), "whoever follows a job whose collection is gone is told of its end"
    assert followed[-1].final
    tv.delete_collection("held")


def test_a_note_of_the_stack_that_somebody_deletes_is_written_again(stack: Stack, digits: Digits) -> None:
    note = stack.home / "run.json"
    before = json.loads(note.read_text())
    note.unlink()
    honest(stack, digits)
    until(note.exists, "a new note", within=30)
    assert json.loads(note.read_text()) == before
