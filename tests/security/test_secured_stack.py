"""The whole product over TLS, with the documented users and roles, on Redis: it works, it refuses what it should, and
it keeps its passwords to itself whatever happens."""

import json
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from celery import Celery
from sqlalchemy import Engine

from tests.makers import glyph
from tests.security.conftest import SECRET, Users, tls_broker_url, tls_database_url
from tests.security.tls import Authority, Terminator
from tests.stack.conftest import Stack, make_stack, until
from twinvec_client import BrokerUnavailable, Callback, DatabaseUnavailable, Twinvec
from twinvec_client.contract.broker import KEY_PREFIX, safe_url
from twinvec_client.contract.messages import ListJobs, StartTraining
from worker.transport import SET_ASIDE

KINDS = ("front", "control", "intake", "embedder", "trainer", "beat")


@dataclass
class Secured:
    """A stack behind TLS, an application's client of it, and what was said to the operator and the application."""

    stack: Stack
    application: Twinvec
    said: list[str] = field(default_factory=list)

    def command(self, *words: str) -> int:
        ran = self.stack.command(*words, check=False)
        self.said += [ran.stdout, ran.stderr]
        return ran.returncode

    def log(self, kind: str) -> str:
        return (self.stack.home / "logs" / f"{kind}.log").read_text()

    def logged(self, kind: str, line: str) -> bool:
        return line in self.log(kind)


@pytest.fixture(scope="module")
def users(redis_users: Users) -> Users:
    """On Redis: Valkey is what every other stack has."""
    return redis_users


@pytest.fixture(scope="module")
def secured(broker_tls: Terminator, database_tls: Terminator, authority: Authority, users: Users) -> Iterator[Secured]:
    with redis.Redis.from_url(users.url) as broker, tempfile.TemporaryDirectory(prefix="twinvec-") as folder:
        broker.flushdb()
        broker.execute_command("ACL", "LOG", "RESET")
        stack = make_stack(
            Path(folder) / "home",
            TWINVEC_BROKER_URL=tls_broker_url(broker_tls, "twinvec-worker", authority),
            TWINVEC_DATABASE_URL=tls_database_url(database_tls, "twinvec_worker", authority, sslmode="verify-full"),
        )
        application = Twinvec(tls_broker_url(broker_tls, "twinvec-producer", authority))
        secured = Secured(stack, application)
        try:
            assert secured.command("up", "--detach", "--json") == 0, secured.said
            yield secured
        finally:
            secured.command("down")
        broker.flushdb()


@pytest.fixture(scope="module")
def admin(users: Users) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(users.url) as broker:
        yield broker


def test_the_whole_job_runs_encrypted_and_under_the_least_rights(secured: Secured, admin: "redis.Redis") -> None:
    tv = secured.application
    pictures = [np.frombuffer(glyph(seed), np.uint8).reshape(28, 28) for seed in range(40)]
    sent: dict[str, Any] = {str(n): picture for n, picture in enumerate(pictures)}
    job = tv.embed(sent | {"bad": b"no picture"}, on_finish=Callback("orders.embedded", queue="orders"))
    training = tv.train(recipe="notebook", seed=1)
    assert training.wait(timeout=120).tower == 1
    outcome = job.wait(timeout=60)
    assert (outcome.succeeded, outcome.failed) == (40, 1)
    assert [failure.key for failure in job.failures(pictures=True)] == ["bad"]
    assert tv.nearest(pictures[3], k=1).neighbours[0].key == "3"
    assert [each.id for each in tv.jobs()] == [training.id, job.id]
    assert tv.towers()[0].embedded == 40
    tv.job(job.id).cancel()
    until(lambda: admin.llen("orders") or admin.acl_log(), "the message that the job has ended", within=20)
    assert admin.acl_log() == [], "somebody was refused a command that is needed"


def test_what_a_dead_worker_held_in_redis_comes_back_under_the_least_rights(
    secured: Secured, admin: "redis.Redis"
) -> None:
    """As kombu leaves a message whose holder dies: noted as unacknowledged, long ago."""
    jobs = len(secured.application.jobs())
    request = StartTraining(
        job="00000000-0000-4000-8000-000000000001", recipe="notebook", seed=2, callback=None, started_by=None
    )
    elsewhere = sender(secured, prefix=f"{KEY_PREFIX}elsewhere:")
    elsewhere.send_task(request.task, kwargs=request.write(), queue="control")
    popped = admin.rpop(f"{KEY_PREFIX}elsewhere:control")
    assert isinstance(popped, bytes)
    message = json.loads(popped)
    with admin.pipeline() as pipe:
        pipe.hset(f"{KEY_PREFIX}unacked", "tag", json.dumps([message, "", "control"]))
        pipe.zadd(f"{KEY_PREFIX}unacked_index", {"tag": time.time() - 3600})
        pipe.execute()
    until(lambda: len(secured.application.jobs()) == jobs + 1, "the message of the dead worker", within=30)
    secured.application.job(request.job).cancel()
    assert admin.hget(f"{KEY_PREFIX}unacked", "tag") is None
    assert admin.acl_log() == []


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def sender(secured: Secured, prefix: str = KEY_PREFIX, serializer: str = "msgpack") -> Celery:
    """An application that writes what it likes, as the workers' own user."""
    app = Celery(broker=safe_url(secured.stack.environment["TWINVEC_BROKER_URL"]), set_as_current=False)
    app.conf.update(broker_transport_options={"global_keyprefix": prefix}, task_serializer=serializer)
    return app


def test_pickles_json_and_unknown_tasks_are_set_aside_and_not_run(
    secured: Secured, admin: "redis.Redis", tmp_path: Path
) -> None:
    bomb = tmp_path / "went off"
    trainings = sum(job.kind == "train" for job in secured.application.jobs())
    workers = worker_pids(secured)
    request = StartTraining(
        job="00000000-0000-4000-8000-000000000002", recipe="notebook", seed=3, callback=None, started_by=None
    )

    sender(secured, serializer="pickle").send_task(ListJobs.task, args=(Bomb(bomb),), queue="control")
    sender(secured, serializer="json").send_task(request.task, kwargs=request.write(), queue="control")
    sender(secured).send_task("os.system", args=("true",), queue="control")
    until(lambda: "the task os.system is not one of the lane control" in secured.log("control"), "a line on the task")

    assert not bomb.exists()
    assert sum(job.kind == "train" for job in secured.application.jobs()) == trainings
    assert "its content is of the type application/x-python-serialize, and not msgpack" in secured.log("control")
    assert f"the task {request.task} is not one that the lane control takes in JSON" in secured.log("control")
    assert admin.llen(KEY_PREFIX + SET_ASIDE) == 3
    assert worker_pids(secured) == workers, "a worker was started again"
    until(lambda: admin.hlen(f"{KEY_PREFIX}unacked") == 0, "every message acknowledged")


def worker_pids(secured: Secured) -> dict[str, int]:
    workers: dict[str, int] = json.loads((secured.stack.home / "run.json").read_text())["workers"]
    return workers


def test_no_password_is_said_or_written_whatever_fails(
    secured: Secured,
    admin: "redis.Redis",
    operator: Engine,
    broker_tls: Terminator,
    database_tls: Terminator,
) -> None:
    assert secured.command("health", "--lanes", "intake,embed,query,control,express") == 0
    command_lines = [word for process in secured.stack.processes() for word in process.cmdline()]
    noted = secured.stack.home / "run.json"
    assert SECRET in noted.read_text()
    assert noted.stat().st_mode & 0o777 == 0o600

    with operator.connect() as connection:
        connection.exec_driver_sql("ALTER ROLE twinvec_worker PASSWORD 'another'")
        connection.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'twinvec'")
    fails_with(secured, DatabaseUnavailable, "password authentication failed")
    assert secured.command("health") == 1
    database_tls.close()
    fails_with(secured, DatabaseUnavailable, "refused")
    assert secured.command("health") == 1

    for user in ("twinvec-worker", "twinvec-producer"):
        admin.execute_command("ACL", "SETUSER", user, "resetpass", ">another")
        admin.execute_command("CLIENT", "KILL", "USER", user)
    fails_with(secured, BrokerUnavailable, "invalid username-password")
    assert secured.command("health") == 4
    for kind in KINDS:
        until(partial(secured.logged, kind, "invalid username-password"), f"a line in {kind}.log")
    broker_tls.close()
    fails_with(secured, BrokerUnavailable, "refused")
    assert secured.command("jobs") == 4
    assert secured.command("down") == 0
    assert secured.command("up", "--detach") == 1

    assert SECRET not in "\n".join(secured.said + command_lines)
    written = [path for path in secured.stack.home.rglob("*") if path.is_file()]
    assert {f"{kind}.log" for kind in (*KINDS, "up")} <= {path.name for path in written}
    assert [path.name for path in written if SECRET in path.read_text()] == []


def fails_with(secured: Secured, kind: type[Exception], said: str) -> None:
    """Ask until the answer is this failure; what the application would see is kept."""

    def asked() -> bool:
        try:
            secured.application.jobs()
        except kind as error:
            secured.said += traceback.format_exception(error)
            return said in str(error)
        except (BrokerUnavailable, DatabaseUnavailable):
            return False
        return False

    until(asked, f"{kind.__name__} with {said!r}", within=30)
