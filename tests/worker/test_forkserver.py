"""Pool processes and workers as forks of a server: what they are, what they do not inherit, and life without it."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.makers import eventually
from worker import forkserver

SERVED = """
import json, os, resource, signal, sys, threading
from billiard import get_context
from worker import forkserver

told = []

def begin():
    told.append("begun")

def look(queue, secret):
    descriptors = {os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")}
    queue.put({
        "pid": os.getpid(), "parent": os.getppid(), "name": open("/proc/self/comm").read().strip(), "begun": told,
        "variable": os.environ.get("SET_LATER"), "nice": os.nice(0), "threads": len(os.listdir("/proc/self/task")),
        "secret": secret in descriptors, "terminates": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "title": open("/proc/self/cmdline").read().rstrip("\\0"),
    })
    sys.exit(7)

def run(secret):
    context = get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=look, args=(queue, secret))
    process.start()
    seen = queue.get()
    process.join()
    return seen | {"status": process.exitcode, "known": process.pid}

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    forkserver.serve_pool(begin, "pool of a test")
    waiting = threading.Event()
    threading.Thread(target=waiting.wait, daemon=True).start()
    os.environ["SET_LATER"] = "later"
    os.nice(3)
    with open(sys.argv[1], "w") as secret:
        first = run(secret.name)
        children = [line.split()[0] for line in open(f"/proc/self/task/{os.getpid()}/children")]
        (server,) = [int(each) for each in " ".join(children).split()
                     if open(f"/proc/{each}/comm").read().strip() == forkserver.FORK_SERVER]
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        second = run(secret.name)
    print(json.dumps({"main": os.getpid(), "first": first, "second": second}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "served.py").write_text(SERVED)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, folder / "served.py", folder / "secret"],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_pool_process_is_a_child_of_its_main_process_and_as_a_new_interpreter_would_be(seen: dict[str, Any]) -> None:
    first = seen["first"]
    assert first["parent"] == seen["main"]
    assert first["known"] == first["pid"]
    assert first["status"] == 7
    assert (first["variable"], first["nice"]) == ("later", 3)
    assert first["terminates"]
    assert first["name"] == forkserver.POOL
    assert "pool of a test" in first["title"]
    assert first["begun"] == ["begun"]


def test_it_inherits_neither_thread_nor_file(seen: dict[str, Any]) -> None:
    assert seen["first"]["threads"] == 1
    assert not seen["first"]["secret"]


def test_a_pool_process_starts_without_the_server_as_well(seen: dict[str, Any]) -> None:
    second = seen["second"]
    assert second["name"] != forkserver.POOL
    assert (second["parent"], second["status"], second["variable"]) == (seen["main"], 7, "later")


@pytest.fixture
def served() -> Any:
    """A server that is asked over a socket, and its process."""
    ours, theirs = socket.socketpair()
    code = f"""
        import socket
        from worker import forkserver
        forkserver.serve(socket.socket(fileno={theirs.fileno()}))
    """
    with theirs:
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], pass_fds=[theirs.fileno()])
    yield forkserver.ForkServer(ours), process
    process.kill()
    process.wait()
    ours.close()


def start(code: str) -> forkserver.Start:
    return forkserver.Start(code, ["-c"], {}, os.nice(0), "test", "a test", session=True)


def test_its_forks_have_a_session_and_outlive_it_and_it_ends_with_who_it_serves(
    served: tuple[forkserver.ForkServer, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    server, process = served
    (tmp_path / "out").touch()
    with (tmp_path / "out").open("rb+") as out:
        pid = server.fork(start("import time; print('begun', flush=True); time.sleep(600)"), {1: out.fileno()})
    eventually(lambda: (tmp_path / "out").read_text() == "begun\n", "its output")
    assert os.getsid(pid) == pid
    server.close()
    assert process.wait(30) == 0
    fork = psutil.Process(pid)
    assert fork.is_running()
    fork.kill()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9


@pytest.mark.parametrize(
    ("code", "status"), [("raise SystemExit", 0), ("raise SystemExit('why')", 1), ("1 / 0", 1), ("", 0)]
)
def test_it_ends_with_the_status_of_an_interpreter(
    served: tuple[forkserver.ForkServer, subprocess.Popen[bytes]], code: str, status: int
) -> None:
    pid = served[0].fork(start(code), {})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status


def test_a_server_that_has_ended_is_said_so(served: tuple[forkserver.ForkServer, subprocess.Popen[bytes]]) -> None:
    server, process = served
    process.kill()
    process.wait()
    for _ in range(2):
        with pytest.raises((OSError, EOFError)):
            server.fork(start(""), {})
