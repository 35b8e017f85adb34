"""Faults for real: after each, every accepted picture has exactly one vector."""

import json
import signal
from typing import Any

import numpy as np
import psutil
import redis
from sqlalchemy import text

from tests.stack.conftest import Stack, until
from twinvec_client import EmbedJob

COUNT = 6_000


def submit(stack: Stack, collection: str, seed: int) -> EmbedJob:
    images = np.random.default_rng(seed).integers(0, 256, (COUNT, 28, 28), np.uint8)
    pictures = ((f"{n}", images[n]) for n in range(COUNT))
    return stack.client().embed(pictures, collection=collection, normalise=False)


def kill_worker(stack: Stack, name: str) -> None:
    """SIGKILL for a worker, parent and children alike."""
    pid = stack.noted["workers"][name]
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def assert_whole(stack: Stack, job: EmbedJob, collection: str) -> None:
    """Nothing lost, nothing twice, nothing under a lease any more."""
    outcome = job.wait(timeout=120)
    assert (outcome.state, outcome.succeeded) == ("finished", COUNT)
    vectors = (
        "SELECT count(*) FROM embeddings JOIN digits ON id = digit WHERE collection = :collection "
        "AND tower = (SELECT id FROM towers WHERE status = 'live')"
    )
    assert stack.one(vectors, collection=collection) == COUNT
    assert stack.one("SELECT count(*) FROM digits WHERE collection = :collection", collection=collection) == COUNT
    assert stack.one("SELECT count(*) FROM batches WHERE state IN ('queued', 'leased')") == 0


def test_killed_embedders_cost_no_picture(stack: Stack, tower: dict[str, Any]) -> None:
    kill_worker(stack, "embedder")
    job = submit(stack, "killed", 1)  # accepted by the others meanwhile
    until(lambda: job.status().succeeded or job.status().state == "running", "an embedder that works again")
    refresh(stack)
    kill_worker(stack, "embedder")
    assert_whole(stack, job, "killed")


def test_a_broker_that_forgets_everything_costs_no_picture(stack: Stack, tower: dict[str, Any]) -> None:
    refresh(stack)
    kill_worker(stack, "embedder")
    job = submit(stack, "forgotten", 2)
    with redis.Redis.from_url(stack.noted["broker_url"]) as broker:
        broker.flushall()
    assert_whole(stack, job, "forgotten")


def test_a_killed_broker_costs_no_picture(stack: Stack, tower: dict[str, Any]) -> None:
    refresh(stack)
    kill_worker(stack, "embedder")
    job = submit(stack, "broker", 3)
    with redis.Redis.from_url(stack.noted["broker_url"]) as broker:
        pid = int(broker.info("server")["process_id"])
    psutil.Process(pid).kill()
    until(lambda: answers(stack), "an answer through the broker that was started again")
    assert_whole(stack, job, "broker")


def test_ended_database_connections_cost_no_picture(stack: Stack, tower: dict[str, Any]) -> None:
    job = submit(stack, "connections", 4)
    engine = stack.engine()
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'twinvec' AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()
    assert_whole(stack, job, "connections")


def refresh(stack: Stack) -> None:
    """Read again which processes run: the supervisor has started new ones."""
    stack.noted = json.loads((stack.home / "run.json").read_text())


def answers(stack: Stack) -> Any:
    try:
        return stack.client().jobs() is not None
    except Exception:
        return False
