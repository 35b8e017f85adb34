"""Work is held back and let go on, on a running stack whose workers are killed meanwhile: nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import psutil
import pytest

from tests.stack.conftest import Stack, until
from twinvec_client import EmbedJob, Lane, Twinvec

COUNT = 300  # more than a small job has, which no worker of the lane `embed` is needed for
TRIED = "SELECT coalesce(max(attempt), 0) FROM batches WHERE job = :job"


@pytest.fixture
def tv(stack: Stack, tower: dict[str, Any]) -> Iterator[Twinvec]:
    """A client; whatever a test has paused goes on afterwards."""
    tv = stack.client()
    yield tv
    stack.command("resume", "--all")


def pictures(seed: int, count: int = COUNT) -> dict[str, Any]:
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)
    return {f"{seed}/{at}": image for at, image in enumerate(images)}


def lane(tv: Twinvec, name: str) -> Lane:
    return next(each for each in tv.overview(jobs=0).lanes if each.name == name)


def kill(stack: Stack, name: str) -> None:
    """SIGKILL for a worker and its pool; the supervisor starts another."""
    parent = psutil.Process(json.loads((stack.home / "run.json").read_text())["workers"][name])
    for process in [parent, *parent.children(recursive=True)]:
        process.send_signal(signal.SIGKILL)


def assert_whole(job: EmbedJob, stack: Stack, count: int = COUNT) -> None:
    """Embedded, each batch at its first try."""
    outcome = job.wait(timeout=60)
    assert (outcome.state, outcome.succeeded) == ("finished", count)
    assert stack.one(TRIED, job=job.id) == 1


def test_what_waits_on_a_paused_lane_outlasts_its_worker(stack: Stack, tv: Twinvec) -> None:
    paused = tv.pause(lane="embed", why="to see")
    bulk, small = (
        tv.embed(pictures(seed, count), collection="held", normalise=False) for seed, count in ((1, COUNT), (2, 3))
    )
    for job in (bulk, small):
        status = job.status()
        assert (status.state, status.paused) == ("queued", paused)
    kill(stack, "embedder")
    until(lambda: stack.command("health", "--lanes", "embed", check=False).returncode == 0, "another embedder")
    seen = lane(tv, "embed")
    assert (seen.queued, seen.running, seen.paused) == (2, 0, paused)
    assert stack.one("SELECT count(*) FROM embeddings JOIN digits ON id = digit WHERE collection = 'held'") == 0

    doctor = json.loads(stack.command("doctor", "--json", check=False).stdout)
    (said,) = [each for each in doctor if "the lane embed is paused" in each["found"]]
    assert (said["level"], "to see" in said["found"], said["advice"]) == (
        "warning",
        True,
        "`twinvec resume embed` lets it go on",
    )
    assert [each for each in doctor if each["level"] == "problem"] == []

    assert json.loads(stack.command("resume", "embed", "--json").stdout) == {"embed": True}
    assert_whole(bulk, stack)
    assert_whole(small, stack, 3)
    assert [(each.action, each.target) for each in tv.actions(limit=2)] == [
        ("resume", "lane embed"),
        ("pause", "lane embed"),
    ]


def test_senders_wait_while_pictures_are_not_taken_in(
    stack: Stack, tv: Twinvec, caplog: pytest.LogCaptureFixture
) -> None:
    assert "paused" in stack.command("pause", "intake", "--why", "a new disk").stdout
    log = stack.home / "logs" / "intake.log"
    until(lambda: "Canceling queue intake" in log.read_text(), "its worker leaves the lane alone", within=5)
    jobs: list[EmbedJob] = []
    sent = {"bulk": pictures(3), "small": pictures(4, 3)}
    senders = [
        threading.Thread(target=lambda some=some: jobs.append(stack.client().embed(some, normalise=False)))
        for some in sent.values()
    ]
    for sender in senders:
        sender.start()
    until(lambda: caplog.text.count("the lane intake is paused") == 2, "both senders say why they wait")
    assert "a new disk" in caplog.text
    until(lambda: lane(tv, "intake").waiting >= 2, "chunks that nobody takes")
    kill(stack, "intake")
    until(lambda: stack.command("health", "--lanes", "intake", check=False).returncode == 0, "another one")
    assert lane(tv, "intake").waiting >= 2
    assert jobs == []

    assert tv.resume(lane="intake")
    for sender in senders:
        sender.join(60)
    assert sorted(job.wait(timeout=60).succeeded for job in jobs) == [3, COUNT]


def test_top_shows_it_and_pauses_the_marked_lane(stack: Stack, tv: Twinvec) -> None:
    assert json.loads(stack.command("top", "--json").stdout)["live_tower"]
    assert "embedder@" in stack.command("top").stdout, "no terminal: it looks once"
    ours, theirs = os.openpty()
    terminal = {"TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
    command = [sys.executable, "-m", "cli", "top"]
    top = subprocess.Popen(command, env=stack.environment | terminal, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = bytearray()
    reader = threading.Thread(target=read_all, args=(ours, shown))
    reader.start()
    try:
        until(lambda: b"embedder" in shown, "the screen")
        os.write(ours, b"p")
        until(lambda: lane(tv, "embed").paused, "the pause by a key")
        os.write(ours, b"\x1b[Aq")
        assert top.wait(timeout=20) == 0
    finally:
        top.kill()
        reader.join(20)
        os.close(ours)


def read_all(terminal: int, into: bytearray) -> None:
    with suppress(OSError):  # the other side has gone
        while some := os.read(terminal, 4096):
            into += some


def test_a_drained_installation_is_empty_and_goes_on(stack: Stack, tv: Twinvec) -> None:
    job = tv.embed(pictures(5), normalise=False)
    lanes = {each["name"]: each for each in json.loads(stack.command("drain", "--json").stdout)}
    assert set(lanes) == {"intake", "embed", "backfill", "train"}
    assert all(each["paused"] for each in lanes.values())
    assert (lanes["embed"]["queued"], lanes["embed"]["running"]) == (0, 0)
    assert job.status().state == "finished"
    stack.command("resume", "--all")
    assert_whole(tv.embed(pictures(6), normalise=False), stack)


def test_many_jobs_are_cancelled_and_many_failures_sent_again(stack: Stack, tv: Twinvec) -> None:
    tv.pause(lane="embed")
    waiting = {tv.embed(pictures(seed, 20), collection="dropped", normalise=False).id for seed in (7, 8)}
    kept = tv.embed(pictures(9, 20), collection="kept", normalise=False)
    chosen = ("cancel", "--collection", "dropped", "--state", "queued", "--json")
    assert {job["id"] for job in json.loads(stack.command(*chosen, "--dry-run").stdout)} == waiting
    assert {job["state"] for job in json.loads(stack.command(*chosen).stdout)} == {"cancelled"}
    tv.resume(lane="embed")
    assert_whole(kept, stack, 20)

    for seed in (1, 2):
        tv.embed({f"bad {seed}": b"no picture"}, collection="damaged")
    assert stack.command("retry", "--since", "1h", "--reason", "blank", check=False).returncode == 0
    again = stack.command(
        "retry", "--since", "1h", "--reason", "not_a_picture", "--collection", "damaged", "--json", check=False
    )
    (job,) = json.loads(again.stdout)
    assert (again.returncode, job["total"], job["failed"]) == (3, 2, 2)
    done = [(each.action, each.target) for each in tv.actions(limit=10)]
    assert ("retry", "collection damaged") in done
    assert {("cancel", f"job {id}") for id in waiting} <= set(done)
