"""`twinvec doctor` against a running stack."""

import json
from typing import Any

import psutil

from tests.stack.conftest import Stack, until
from worker.forkserver import POOL


def test_doctor_finds_a_running_stack_well(stack: Stack, tower: dict[str, Any]) -> None:
    done = stack.command("doctor", "--json", check=False)
    found = {finding["part"]: finding for finding in json.loads(done.stdout)}
    assert {finding["level"] for finding in found.values()} == {"ok"}, found
    assert done.returncode == 0
    assert f"tower {tower['id']} " in found["tower"]["found"]
    assert "no problem" in stack.command("doctor").stderr


def test_health_of_lanes_is_that_their_work_gets_done(stack: Stack, tower: dict[str, Any]) -> None:
    said = json.loads(stack.command("health", "--lanes", "embed,query", "--json").stdout)["lanes"]
    assert list(said) == ["embed", "query"]
    assert 0 < said["query"]["probe"] < 10
    refused = stack.command("health", "--lanes", "queries", check=False)
    assert (refused.returncode, "no lane queries" in refused.stderr) == (2, True)

    children = psutil.Process(stack.noted["workers"]["front"]).children()
    (pool,) = (child for child in children if child.name() == POOL)
    pool.suspend()
    try:
        assert stack.command("health", check=False).returncode == 0, "broker and database are as they were"
        stuck = stack.command("health", "--lanes", "query,embed", check=False)
        assert stuck.returncode == 1
        assert "query: a worker listens, and no probe came back within 10 s" in stuck.stderr
        assert "embed" not in stuck.stderr
        assert stack.client().jobs(), "what holds up look-ups holds up no question"
    finally:
        pool.resume()
    until(lambda: stack.command("health", "--lanes", "query", check=False).returncode == 0, "the lane, at work again")
