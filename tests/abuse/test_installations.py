"""Two installations that meet at one broker: neither takes what is the other's, whatever is started in which order."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import redis
from sqlalchemy import URL, Engine, create_engine, text

from cli.doctor.finding import OK, PROBLEM
from cli.doctor.installation import installation as installation_findings
from local.servers.valkey import Valkey
from tests.makers import eventually
from twinvec_client import OtherInstallation, Twinvec
from worker import installation
from worker.settings import Settings

LANES = "control,express,intake"  # of workers that load no TensorFlow


@dataclass(frozen=True)
class Installation:
    """A ledger of its own, and ways to run its processes."""

    name: str
    database_url: str
    id: str
    folder: Path

    def environment(self, broker_url: str, prefix: str | None) -> dict[str, str]:
        bare = {name: value for name, value in os.environ.items() if not name.startswith("TWINVEC_")}
        given = {} if prefix is None else {"TWINVEC_PREFIX": prefix}
        return bare | given | {
            "TWINVEC_HOME": str(self.folder / "home"),
            "TWINVEC_BROKER_URL": broker_url,
            "TWINVEC_DATABASE_URL": self.database_url.replace("+psycopg", ""),
        }  # fmt: skip

    def command(
        self, *arguments: str, broker_url: str, prefix: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "cli", *arguments]
        environment = self.environment(broker_url, prefix)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    @contextmanager
    def worker(self, broker_url: str, prefix: str | None = None) -> Iterator[Path]:
        """Its log."""
        log, ready = self.folder / "worker.log", self.folder / "ready"
        ready.unlink(missing_ok=True)
        with log.open("wb") as output:
            running = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli", "worker", "--lanes", LANES],
                env=self.environment(broker_url, prefix) | {"TWINVEC_READY_FILE": str(ready)},
                stdout=output,
                stderr=output,
            )
        try:
            eventually(lambda: ready.exists() or running.poll() is not None, "its pool process", seconds=60)
            assert ready.exists(), log.read_text()
            yield log
        finally:
            running.terminate()
            running.wait(30)

    def digits(self) -> int:
        engine = create_engine(self.database_url)
        with engine.connect() as connection:
            stored = connection.execute(text("SELECT count(*) FROM digits")).scalar_one()
        engine.dispose()
        return int(stored)


@pytest.fixture
def make_installation(
    costly: None, operator: Engine, template: str, server_url: URL, tmp_path: Path
) -> Iterator[Callable[[str], Installation]]:
    with ExitStack() as made:

        def make(name: str) -> Installation:
            database = f"{name}_{uuid.uuid4().hex}"  # a process keeps what it has read of one
            with operator.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {database} TEMPLATE {template}"))
            made.callback(drop, database)
            url = server_url.set(database=database)
            engine = create_engine(url)
            with engine.begin() as connection:
                renamed = text("UPDATE installation SET id = gen_random_uuid() RETURNING id")
                id = str(connection.execute(renamed).scalar_one())
            engine.dispose()
            (tmp_path / name).mkdir()
            return Installation(name, url.render_as_string(hide_password=False), id, tmp_path / name)

        def drop(database: str) -> None:
            with operator.connect() as connection:
                connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))

        yield make


@pytest.fixture
def one(make_installation: Callable[[str], Installation]) -> Installation:
    return make_installation("one")


@pytest.fixture
def two(make_installation: Callable[[str], Installation]) -> Installation:
    return make_installation("two")


@pytest.fixture
def shared(broker_url: str) -> Iterator[str]:
    """A broker that holds nothing."""
    url = broker_url.removesuffix("/0") + "/7"
    with redis.Redis.from_url(url) as broker:
        broker.flushdb()
        yield url
        broker.flushdb()


@contextmanager
def valkey(folder: Path, port: int) -> Iterator[Valkey]:
    server = Valkey(folder, folder.with_suffix(".log"), port)
    server.start()
    try:
        yield server
    finally:
        server.stop(immediate=True)


def pictures(count: int, seed: int) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)
    return {f"{seed}/{at}": each for at, each in enumerate(drawn)}


def test_the_second_is_refused_where_the_first_works_and_has_lanes_of_its_own_by_a_prefix(
    one: Installation, two: Installation, shared: str
) -> None:
    mine, others = Twinvec(shared), Twinvec(shared, prefix="staging")
    with one.worker(shared):
        for command in (["worker", "--lanes", LANES], ["beat"], ["up"], ["health"]):
            refused = two.command(*command, broker_url=shared)
            assert refused.returncode == 1
            said = refused.stderr.strip().splitlines()[-1]
            assert re.fullmatch(rf"twinvec: .*belong to .*{one.id[:8]}.*that of {two.id[:8]}: .*TWINVEC_PREFIX.*", said)
        level, found = doctor(two, shared)
        assert (level, one.id[:8] in found, two.id[:8] in found) == (PROBLEM, True, True)
        assert doctor(one, shared) == (OK, f"{one.id[:8]}, and the prefix of its lanes is twinvec")
        mine.embed(pictures(3, seed=1), normalise=False)
        with two.worker(shared, prefix="staging"):
            others.embed(pictures(2, seed=2), normalise=False)
            mine.embed(pictures(1, seed=3), normalise=False)
            assert doctor(two, shared, "staging") == (OK, f"{two.id[:8]}, and the prefix of its lanes is staging")
    assert (one.digits(), two.digits()) == (4, 2)


def doctor(there: Installation, broker_url: str, prefix: str | None = None) -> tuple[str, str]:
    settings = Settings(database_url=there.database_url, broker_url=broker_url, prefix=prefix)
    (found,) = installation_findings(settings)
    return found.level, found.found


def test_workers_whose_broker_s_port_another_installation_has_taken_take_nothing_of_its(
    one: Installation, two: Installation, tmp_path: Path
) -> None:
    with valkey(tmp_path / "first", 0) as first:
        url, client = first.url, Twinvec(first.url, answer_timeout=5)
        with one.worker(url) as log, ExitStack() as begun:
            client.embed(pictures(1, seed=1), normalise=False)
            first.stop(immediate=True)
            with valkey(tmp_path / "second", first.port):
                settings = Settings(database_url=two.database_url, broker_url=url)
                assert installation.faults(url, settings, claiming=True, by_force=True) == []  # as `up` does
                begun.enter_context(two.worker(url))
                said = f"belong to the installation {two.id[:8]}"
                eventually(lambda: said in log.read_text(), "its refusal to work there", seconds=60)
                for seed in range(10, 30):
                    Twinvec(url).embed(pictures(1, seed), normalise=False)
                with pytest.raises(OtherInstallation, match=two.id[:8]):
                    client.embed(pictures(1, seed=2), normalise=False)
                with pytest.raises(OtherInstallation):
                    client.jobs()
    assert (one.digits(), two.digits()) == (1, 20)


def test_an_application_may_say_which_installation_it_means(one: Installation, two: Installation, shared: str) -> None:
    with one.worker(shared):
        assert Twinvec(shared, installation=one.id).jobs() == []
        with pytest.raises(OtherInstallation, match=one.id[:8]):
            Twinvec(shared, installation=two.id).embed(pictures(200, seed=1), normalise=False)
    assert one.digits() == 0


def test_lanes_of_a_broker_that_was_emptied_are_claimed_again(one: Installation, shared: str) -> None:
    with one.worker(shared), redis.Redis.from_url(shared) as broker:
        broker.flushdb()
        eventually(lambda: installation.owner(broker, "twinvec") == one.id, "its id")


def test_the_broker_of_a_home_belongs_to_its_installation_whatever_it_held(
    one: Installation, two: Installation, shared: str
) -> None:
    settings = {each.id: Settings(database_url=each.database_url, broker_url=shared) for each in (one, two)}
    assert installation.faults(shared, settings[one.id], claiming=True) == []
    assert [each.severity for each in installation.faults(shared, settings[two.id], claiming=True)] == ["refusal"]
    assert installation.faults(shared, settings[two.id], claiming=True, by_force=True) == []
    assert len(installation.faults(shared, settings[one.id])) == 1
