"""Whether a worker is live and ready, by the signs of its processes, and what it serves over HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine

from tests.makers import eventually
from worker import watchdog
from worker.endpoint import AT_ONCE, Endpoint
from worker.heartbeat import PREFIX, Heartbeat, Signs
from worker.metrics import MARK
from worker.metrics_folder import MetricsFolder
from worker.monitor import FROZEN, LOADING, OVERTIME, SILENT, UNWORKED, Monitor, not_live

NOW = 10_000.0
WELL = Signs(noted=NOW, warm=NOW - 500, answered=NOW - 3, busy=0.0, until=0.0)

# A process that counts as a pool process does, says so, and waits.
COUNTS = """
import sys
from worker import metrics
metrics.count_failed(["blank"] * int(sys.argv[1]) + ["a reason of another version"])
metrics.LOOKUP.observe(0.2)
print("counted", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"noted": NOW - FROZEN - 1}, "has not run"),
        ({"answered": NOW - SILENT - 1}, "the database has not answered"),
        ({"answered": 0.0, "warm": NOW - 1}, ""),
        ({"answered": 0.0, "warm": 0.0}, ""),
        ({"busy": NOW - 700, "until": NOW - OVERTIME + 1}, ""),
        ({"busy": NOW - 700, "until": NOW - OVERTIME - 1}, "longer than it may"),
    ],
    ids=["well", "frozen", "database silent", "just warm", "loading", "at work", "over time"],
)
def test_a_process_is_live_unless_something_has_taken_too_long(changed: dict[str, float], said: str) -> None:
    assert said in "".join(not_live("it", WELL._replace(**changed), NOW))
    assert bool(list(not_live("it", WELL._replace(**changed), NOW))) is bool(said)


class Worker:
    """A monitor of this process, one child of which stands for a pool process, and what it has noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        monkeypatch.setattr(watchdog.BROKER, "at", 0.0)
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr("tempfile.tempdir", None)
        self.held, self.patch = False, monkeypatch
        self.child = subprocess.Popen(["sleep", "600"])
        self.monitor = Monitor("embedder", ["embed"], 1, held=lambda: self.held)

    def notes(self, **changed: float) -> None:
        now = time.monotonic()
        signs = {"noted": now, "warm": now, "answered": now, "busy": 0.0, "until": 0.0} | changed
        file = os.open(self.monitor.folder.path / f"{PREFIX}{self.child.pid}", os.O_WRONLY | os.O_CREAT)
        Signs(**signs).write(file)
        os.close(file)

    def broker_answers(self, ago: float = 0.0) -> None:
        self.patch.setattr(watchdog.BROKER, "at", time.monotonic() - ago)

    def passes(self, seconds: float) -> None:
        real = time.monotonic
        self.patch.setattr(time, "monotonic", lambda: real() + seconds)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(monkeypatch, tmp_path)
    yield worker
    worker.child.kill()
    worker.child.wait()
    worker.monitor.folder.close()


def test_a_worker_is_ready_once_its_processes_have_loaded_and_it_listens(worker: Worker) -> None:
    assert (worker.monitor.why_not_live(), len(worker.monitor.why_not_ready())) == ([], 2)
    worker.notes(warm=0.0)
    worker.broker_answers()
    assert "not loaded" in worker.monitor.why_not_ready()[0]
    worker.notes()
    assert worker.monitor.why_not_ready() == []


def test_a_worker_that_never_gets_its_processes_is_not_live(worker: Worker) -> None:
    worker.broker_answers()
    worker.passes(LOADING - 5)
    assert not any("processes run" in said for said in worker.monitor.why_not_live())
    worker.passes(10)
    assert any("0 of 1 processes run" in said for said in worker.monitor.why_not_live())


def test_a_worker_that_the_broker_does_not_answer_is_not_live(worker: Worker) -> None:
    worker.notes()
    worker.broker_answers(ago=SILENT - 1)
    assert worker.monitor.why_not_live() == []
    worker.broker_answers(ago=SILENT + 1)
    assert "the broker has not answered" in worker.monitor.why_not_live()[0]


def test_a_message_that_is_held_while_nobody_works_on_it_gives_a_worker_away(worker: Worker) -> None:
    worker.notes()
    worker.held = True
    worker.broker_answers()
    assert worker.monitor.why_not_live() == []
    worker.passes(UNWORKED + 1)
    worker.broker_answers()
    worker.notes(busy=time.monotonic() - 1)
    assert worker.monitor.why_not_live() == []
    worker.passes(UNWORKED + 2)
    worker.broker_answers()
    worker.notes()
    assert "no process works on one" in worker.monitor.why_not_live()[0]


def test_what_a_process_counted_stays_when_it_is_gone_and_in_one_file(tmp_path: Path) -> None:
    folder = MetricsFolder(lambda: {child.pid for child in psutil.Process().children()}, tmp_path)
    registry = CollectorRegistry()
    registry.register(folder)
    environment = os.environ | {MARK: str(folder.path), "PROMETHEUS_MULTIPROC_DIR": "/another/application's"}

    def counted() -> tuple[float | None, float | None]:
        return (
            registry.get_sample_value("twinvec_failures_total", {"reason": "blank"}),
            registry.get_sample_value("twinvec_lookup_seconds_bucket", {"le": "0.25"}),
        )

    def start(times: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", COUNTS, str(times)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    processes = [start(2), start(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
    assert counted() == (5, 2)
    for process in processes:
        process.communicate()
        assert counted() == (5, 2)
    assert registry.get_sample_value("twinvec_failures_total", {"reason": "other"}) == 2
    assert {file.stem.rpartition("_")[2] for file in folder.path.glob("*.db")} == {"0"}
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_worker_that_was_killed_is_removed_and_no_other(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from worker.metrics_folder import MetricsFolder
folder = MetricsFolder(set, Path({str(tmp_path)!r}))
print("made", flush=True)
sys.stdin.read()
"""
    killed = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "made\n"
    used = MetricsFolder(set, tmp_path)
    long_ago = time.time() - 3600
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    for folder in tmp_path.iterdir():
        os.utime(folder, (long_ago, long_ago))
    new = MetricsFolder(set, tmp_path)
    assert set(tmp_path.iterdir()) == {used.path, new.path}
    used.close()
    new.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Live and not ready."""
    endpoint = Endpoint(
        "127.0.0.1", 0, CollectorRegistry(), live=list, ready=lambda: ["it loads", "it does not listen"]
    )
    yield endpoint
    endpoint.close()


def asked(endpoint: Endpoint, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_endpoint_says_why_not(endpoint: Endpoint) -> None:
    assert asked(endpoint, "/live") == (200, "live\n")
    assert asked(endpoint, "/ready") == (503, "it loads\nit does not listen\n")
    assert asked(endpoint, "/metrics?name=x")[0] == 200
    assert asked(endpoint, "/../etc/passwd")[0] == 404
    assert asked(endpoint, "/metrics", "POST")[0] == 501


def test_callers_that_say_nothing_do_not_pile_up(endpoint: Endpoint) -> None:
    silent = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(3 * AT_ONCE)]
    for one in silent[AT_ONCE:]:
        one.settimeout(10)
        assert one.recv(1) == b""
    for one in silent:
        one.close()
    eventually(lambda: _answers(endpoint), "an answer after them")


def _answers(endpoint: Endpoint) -> bool:
    try:
        return asked(endpoint, "/live") == (200, "live\n")
    except OSError:
        return False


def test_a_database_that_falls_silent_is_noticed_while_the_process_runs_on(tmp_path: Path) -> None:
    class Silent:
        answered = 0.0

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        runtime = Silent()
        port = nobody.getsockname()[1]
        runtime.engine = create_engine(  # type: ignore[attr-defined]  # as a runtime has one
            f"postgresql+psycopg://x@127.0.0.1:{port}/x", connect_args={"connect_timeout": 2}
        )
        heartbeat = Heartbeat(tmp_path, lambda: runtime)  # type: ignore[arg-type, return-value]  # all it needs
        heartbeat.start()
        heartbeat.warmed_up()
        file = tmp_path / f"{PREFIX}{os.getpid()}"
        signs = Signs.read(file)
        assert signs is not None
        eventually(lambda: (Signs.read(file) or signs).noted > signs.noted + 1, "another note")
        noted = Signs.read(file)
        assert noted is not None
        assert noted.answered == 0.0
        assert list(not_live("it", noted._replace(noted=noted.warm + SILENT + 1), noted.warm + SILENT + 1))
