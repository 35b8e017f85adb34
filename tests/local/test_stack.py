"""The stack under `twinvec up`, started for real: one at a time, found again, and gone when it is stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

import local.stack
from local.ports import HOST
from local.servers.process import alive
from local.signals import Interrupts
from tests.stack.conftest import SAMPLE, Stack, make_stack, until
from worker.forkserver import FORK_SERVER
from worker.settings import Settings

AUTOGROUP = Path("/proc/self/autogroup")


@pytest.fixture(scope="module")
def stack(costly: None) -> Iterator[Stack]:
    """A home in which nothing runs yet; not pytest's, which another run of pytest closes to root's PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="twinvec-") as folder:
        stack = make_stack(Path(folder) / "home", TWINVEC_NICENESS="10")
        yield stack
        stack.command("down", "--now")


def test_one_stack_a_home_and_nothing_is_left_of_it_after_down(stack: Stack) -> None:
    stack.up()
    second = stack.command("up", check=False)
    assert second.returncode == 1
    assert f"in use by process {stack.noted['supervisor']}" in second.stderr
    assert "Traceback" not in second.stderr
    assert stack.command("embed", "--no-wait", str(SAMPLE)).returncode == 0

    family = stack.processes()
    own, yielding, behind = (min(os.nice(0) + more, 19) for more in (0, 10, 12))  # 19: the highest there is
    niced = {worker: niceness(worker, family) for worker in ("front", "control", "intake", "embedder", "trainer")}
    assert niced == {
        "front": {own},
        "control": {own},
        "intake": {behind},
        "embedder": {yielding},
        "trainer": {yielding},
    }
    if AUTOGROUP.exists():  # else niceness counts among all processes
        weighed = {worker: niceness_of_session(worker, family) for worker in niced}
        assert weighed == {"front": 0, "control": 0, "intake": behind, "embedder": yielding, "trainer": 0}
    stack.down()

    assert [process for process in family if alive(process)] == []
    assert stack.processes() == []
    assert not (stack.home / "run.json").exists()


def test_what_was_stored_is_there_after_the_next_up_and_down_works_without_a_supervisor(stack: Stack) -> None:
    stack.up()
    (job,) = json.loads(stack.command("jobs", "--json").stdout)
    assert job["state"] == "waiting_for_tower"
    with np.load(SAMPLE) as sample:
        assert job["total"] == len(sample["x_train"]) + len(sample["x_test"])

    psutil.Process(stack.noted["supervisor"]).kill()
    assert stack.processes() != []
    stack.down()
    assert stack.processes() == []


def niceness(worker: str, family: Sequence[psutil.Process]) -> set[int]:
    """Of the processes of one worker that work."""
    parent = first(worker, family)
    return {each.nice() for each in (parent, *parent.children(recursive=True)) if each.name() != FORK_SERVER}


def niceness_of_session(worker: str, family: Sequence[psutil.Process]) -> int:
    """Among all sessions, of the one that a worker's processes are in."""
    said = Path(f"/proc/{first(worker, family).pid}/autogroup").read_text()  # "/autogroup-31 nice 10"
    return int(said.split()[-1])


def first(worker: str, family: Sequence[psutil.Process]) -> psutil.Process:
    """The process of a worker that started its others."""
    (found,) = (process for process in family if process.cmdline()[-2:] == ["--name", worker])
    return found


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_it_starts_in_the_background_leaves_nothing_running(stack: Stack) -> None:
    command = [sys.executable, "-m", "cli", "up", "--detach", "--broker-port", "0"]
    with subprocess.Popen(command, env=stack.environment, stderr=subprocess.DEVNULL) as up:
        until((stack.home / "run.json").exists, "the start of the servers")
        assert not json.loads((stack.home / "run.json").read_text())["ready"]
        up.send_signal(signal.SIGINT)
        assert up.wait(60) != 0
    until(lambda: stack.processes() == [], "the end of the last process", within=10)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_in_the_terminal_stops_everything(stack: Stack) -> None:
    command = [sys.executable, "-m", "cli", "up", "--broker-port", "0", "--json"]
    with subprocess.Popen(
        command, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        answer = json.loads(up.stdout.readline())  # comes when all is ready
        assert answer["pid"] == up.pid
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    until(lambda: stack.processes() == [], "the end of the last process", within=10)


def test_a_port_that_another_program_takes_while_the_stack_starts_is_given_up(
    costly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="twinvec-") as folder, socket.socket() as other, Interrupts() as interrupts:
        stack = local.stack.Stack(Settings(home=Path(folder) / "home"), broker_port=0)
        take_lanes = stack._take_lanes

        def meanwhile() -> None:
            other.bind((HOST, stack._children[0].http_port))
            other.listen()
            take_lanes()

        monkeypatch.setattr(stack, "_take_lanes", meanwhile)
        try:
            stack.start()
            assert stack._children[0].http_port != other.getsockname()[1]
        finally:
            stack.stop(interrupts, grace=5)
