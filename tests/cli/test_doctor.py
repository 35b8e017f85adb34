"""`twinvec doctor` on machines and installations that are not well, and on servers that run."""

import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Connection, Engine, func, insert, text, update

from cli.doctor import beat, database, doctor, lanes, machine, storage, towers
from cli.doctor.broker import broker as check_broker
from cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from db.queue import callbacks, inbox
from db.queue.failures import FailedItem
from db.queue.leases import give_back
from db.tables import Job, Tower
from tests.cli.conftest import Twinvec
from tests.makers import Ledger, age, bury, claim, eventually, finish, item, prune, register, send
from twinvec_client.contract.broker import KEY_PREFIX, LANES
from worker.settings import Settings
from worker.transport import SET_ASIDE
from worker.watchdog import LISTENING, watch_consumer

NOWHERE = "redis://:secret@127.0.0.1:1/0"


def of(part: str, findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.part == part]


@pytest.fixture
def broken(broker: "redis.Redis") -> Iterator["redis.Redis"]:
    """The broker, whose settings a test may spoil."""
    names = ("maxmemory", "maxmemory-policy", "appendonly")
    before = {name: str(broker.config_get(name)[name]) for name in names}
    yield broker
    for name, value in before.items():
        broker.config_set(name, value)


def test_without_servers_it_says_what_to_start_and_ends_with_1(twinvec: Twinvec) -> None:
    done = twinvec("doctor", "--json", TWINVEC_BROKER_URL=NOWHERE)
    assert done.returncode == 1, done.stderr
    found = {finding["part"]: finding for finding in json.loads(done.stdout)}
    assert {part for part, finding in found.items() if finding["level"] == PROBLEM} == {"broker", "database"}
    assert "twinvec up" in found["broker"]["advice"]
    assert "TWINVEC_DATABASE_URL" in found["database"]["advice"]
    assert "secret" not in done.stdout
    assert found["backend"]["level"] == OK


def test_a_backend_that_is_not_there_is_a_problem_of_the_backend_alone(twinvec: Twinvec) -> None:
    done = twinvec("doctor", KERAS_BACKEND="abacus", TWINVEC_BROKER_URL=NOWHERE)
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if " backend " in line)
    assert line.split()[0] == PROBLEM
    assert "abacus" in line
    assert "ok        python" in " ".join(done.stdout.splitlines())


def of_database(url: str) -> list[Finding]:
    with database.reached(url) as (found, _):
        return found


def of_storage(url: str | None, settings: Settings) -> list[Finding]:
    with database.reached(url) as (_, connection):
        return list(storage.storage(connection, settings))


def test_it_loads_no_backend_itself() -> None:
    code = "import sys, cli.doctor.doctor, cli.doctor.machine\nassert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_broker_that_forgets_when_it_is_full_is_a_problem(broken: "redis.Redis", broker_url: str) -> None:
    broken.config_set("maxmemory", "100mb")
    broken.config_set("maxmemory-policy", "allkeys-lru")
    (found,) = [finding for finding in check_broker(broker_url) if "maxmemory" in finding.found]
    assert (found.level, found.advice) == (PROBLEM, "set maxmemory-policy to noeviction")
    broken.config_set("maxmemory", "0")
    (found,) = [finding for finding in check_broker(broker_url) if "maxmemory" in finding.found]
    assert found.level == WARNING


def test_a_broker_without_a_copy_on_disk_is_warned_of(broken: "redis.Redis", broker_url: str) -> None:
    assert [finding.level for finding in of("broker", check_broker(broker_url))] == [OK]
    broken.config_set("appendonly", "no")
    assert [finding.level for finding in of("broker", check_broker(broker_url))] == [OK, WARNING]


def test_a_broker_that_hides_its_settings_is_only_warned_of(broker: "redis.Redis", broker_url: str) -> None:
    broker.acl_setuser("shy", enabled=True, passwords=["+pass"], categories=["+@all"], commands=["-info"], keys=["*"])
    try:
        (found,) = check_broker(broker_url.replace("redis://", "redis://shy:pass@"))
    finally:
        broker.acl_deluser("shy")
    assert found.level == WARNING
    assert "pass@" not in found.found


def test_messages_that_were_set_aside_are_counted_for_a_day(broker: "redis.Redis", broker_url: str) -> None:
    def entry(age: float) -> str:
        at = time.time() - age
        return json.dumps({"at": at, "lane": "query", "reason": "headers.id: \x1b[2J", "message": "{}"})

    broker.lpush(KEY_PREFIX + SET_ASIDE, entry(90_000), entry(80_000), entry(1))
    (found,) = (each for each in check_broker(broker_url) if "set aside" in each.found)
    assert found.level == WARNING
    assert found.found == "2 messages were set aside today, the last on query: headers.id: \\u001b[2J"
    assert f"LRANGE {KEY_PREFIX}{SET_ASIDE}" in found.advice


def test_lanes_without_a_worker_are_named_with_what_waits_there(
    broker: "redis.Redis", broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lane in LANES:
        broker.set(KEY_PREFIX + LISTENING + lane, 1)
    broker.delete(KEY_PREFIX + LISTENING + "intake")
    broker.rpush(KEY_PREFIX + "intake", "message")
    monkeypatch.setattr(lanes, "PROBE_TIMEOUT", 0.2)
    found, *unanswered = lanes.findings(lanes.lanes(broker_url), None)
    assert (found.level, found.found) == (PROBLEM, "none on intake (1 waiting)")
    assert "--lanes intake" in found.advice
    assert [finding.found.partition(":")[0] for finding in unanswered] == [lane for lane in LANES if lane != "intake"]
    assert {finding.level for finding in unanswered} == {PROBLEM}, "who listens and does not answer does not work"


def test_a_worker_s_mark_that_it_listens_on_a_lane_fades(broker: "redis.Redis", broker_url: str) -> None:
    ended = watch_consumer(Settings(broker_url=broker_url), ["query"])
    try:
        eventually(lambda: bool(broker.exists(KEY_PREFIX + LISTENING + "query")), "the note")
        assert 0 < broker.ttl(KEY_PREFIX + LISTENING + "query") <= 20
    finally:
        ended.set()  # it would end this process, where a later test leaves messages


def test_a_database_that_was_never_migrated_is_a_problem(empty_database_url: str) -> None:
    found = {finding.part: finding for finding in of_database(empty_database_url)}
    assert found["database"].level == OK
    assert (found["tables"].level, found["tables"].advice) == (PROBLEM, "run `twinvec migrate`")
    assert "tower" not in found


def test_a_database_that_does_not_answer_is_a_problem() -> None:
    (found,) = of_database("postgresql+psycopg://someone:secret@127.0.0.1:1/none")
    assert found.level == PROBLEM
    assert "secret" not in found.found


def test_the_live_tower_is_named_and_its_absence_warned_of(ledger: Ledger, database_url: str) -> None:
    (found,) = of("tower", of_database(database_url))
    assert (found.level, found.advice) == (WARNING, "train one with `twinvec train`")
    tower = register(ledger)
    (found,) = of("tower", of_database(database_url))
    assert (found.level, found.found.split(" (")[0]) == (OK, f"tower {tower}")


@pytest.mark.parametrize(("read", "level"), [(1_500, OK), (58_000, WARNING)])
def test_how_well_the_live_tower_s_space_is_searched_is_told(
    ledger: Ledger, database_url: str, read: int, level: str
) -> None:
    measured = {"of": 60_000, "read": read, "compared": 26}
    tower = register(ledger)
    ledger(lambda session: session.execute(update(Tower).where(Tower.id == tower).values(metrics={"search": measured})))
    (found,) = of("tower", of_database(database_url))
    assert found.level == level
    assert f"reads {read / 60_000:.1%} of the store's small vectors and compares 26 of 60,000" in found.found


def test_callbacks_that_cannot_be_called_are_counted_and_those_that_were_given_up(
    ledger: Ledger, database_url: str
) -> None:
    ended = [uuid.uuid4() for _ in range(3)]
    callback = {"task": "their.task", "queue": "theirs"}
    rows = [{"id": id, "kind": "train", "parameters": {}, "ended_at": func.now(), "callback": callback} for id in ended]
    ledger(lambda session: session.execute(insert(Job).values(rows)))
    assert not of("callbacks", of_database(database_url))
    ledger(callbacks.postpone, ended[0], "NOPERM: no right", most=1)
    for id in ended[1:]:
        ledger(callbacks.postpone, id, "NOPERM: no right", most=60)
    waiting, given_up = of("callbacks", of_database(database_url))
    assert (waiting.level, waiting.found.partition(",")[0]) == (PROBLEM, "2 could not be called and are tried again")
    assert waiting.found.endswith("on theirs: NOPERM: no right")
    assert (given_up.level, given_up.found.partition(":")[0]) == (
        WARNING,
        f"1 could not be called and were given up, as for job {ended[0]} on theirs",
    )


def test_batches_that_fail_and_batches_that_are_dead_are_told_of(ledger: Ledger, database_url: str) -> None:
    register(ledger)
    failing, dying = send(ledger, item("a", 1), item("b", 2)), send(ledger, item("c", 3))
    assert not of("batches", of_database(database_url))
    lease = claim(ledger, failing)
    assert lease is not None
    ledger(give_back, lease, error="OSError: the card fell out")
    bury(ledger, dying)
    tried, dead = of("batches", of_database(database_url))
    assert (tried.level, tried.found) == (PROBLEM, "1 with 2 digits failed when last tried: OSError: the card fell out")
    assert (dead.level, dead.found) == (WARNING, "1 dead: they are not tried any more")
    again = claim(ledger, failing)
    assert again is not None
    finish(ledger, again)
    assert of("batches", of_database(database_url)) == [dead]


def test_chunks_that_applications_left_are_told_of_where_none_is_taken_in_and_where_some_were_refused(
    ledger: Ledger, database_url: str
) -> None:
    job = uuid.uuid4()
    row = "INSERT INTO inbox (job, message, created_at) VALUES (:job, '', now() - interval '3 minutes')"
    for _ in range(2):
        ledger(lambda session: session.execute(text(row), {"job": job}))
    (waiting,) = of("inbox", of_database(database_url))
    assert (waiting.level, waiting.found.partition(" ")[0]) == (PROBLEM, "2")
    taken = ledger(inbox.take, seconds=60)
    assert taken is not None
    assert not of("inbox", of_database(database_url))
    ledger(inbox.refuse, taken.id, "it is empty")
    (refused,) = [found for found in of("inbox", of_database(database_url)) if found.level == WARNING]
    assert refused.found == f"chunks of applications: 1 refused, as of job {job}: it is empty"


@pytest.mark.parametrize("since", ["waits", "was to be tried again"])
def test_a_lane_that_answers_while_its_batches_wait_is_a_problem(ledger: Ledger, engine: Engine, since: str) -> None:
    batch = send(ledger, item("a", 1))
    column = "created_at" if since == "waits" else "retry_at"
    ledger(lambda session: session.execute(text(f"UPDATE batches SET {column} = now() - interval '5 minutes'")))
    answering = lanes.Lane("embed", True, 0, {"database": 0.01, "tower": None}, 0.1)
    with engine.connect() as connection:
        assert {finding.level for finding in lanes.findings([answering], connection)} == {OK}, (
            "without a tower it waits"
        )
        register(ledger)
        _, still = lanes.findings([answering], connection)
        assert (still.level, "waiting for 300 s while none is worked on" in still.found) == (PROBLEM, True)
        claim(ledger, batch)
        assert {each.level for each in lanes.findings([answering], connection)} == {OK}


def test_what_is_stored_and_for_how_long_is_told(ledger: Ledger, database_url: str) -> None:
    register(ledger)
    send(ledger, failures=[FailedItem("a", "damaged", "half a file", b"half")])
    settings = Settings(keep_jobs=7, keep_dead=14)
    stored, kept = of_storage(database_url, settings)
    assert (stored.part, stored.level, kept.part, kept.level) == ("storage", OK, "retention", OK)
    assert re.fullmatch(
        r"1 jobs \([\d.]+ MB, the oldest of \d{4}-\d\d-\d\d\), 1 batches \([\d.]+ MB\), 1 failures \([\d.]+ MB\), "
        r"files of 1 towers \([\d.]+ MB\)",
        stored.found,
    )
    assert "jobs 7, with dead batches 14" in kept.found
    age(ledger, 7.5)
    assert len(of_storage(database_url, settings)) == 2
    age(ledger, 1)
    (late,) = [finding for finding in of_storage(database_url, settings) if finding.level == WARNING]
    assert late.found == "1 jobs or more should have been pruned a day ago"
    prune(ledger, jobs=7)
    assert [finding.level for finding in of_storage(database_url, settings)] == [OK, OK]


def test_without_a_database_storage_says_nothing(empty_database_url: str) -> None:
    assert of_storage(empty_database_url, Settings()) == of_storage(None, Settings()) == []


def test_no_transaction_idles_while_a_broker_is_waited_for_and_a_database_that_dies_meanwhile_is_told(
    engine: Engine, database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Connection] = []
    idle: list[bool] = []

    def look(connection: Connection, _: Settings) -> Iterator[Finding]:
        used.append(connection)
        yield Finding("towers", OK, f"seen by {connection.execute(text('SELECT pg_backend_pid()')).scalar()}")

    def wait(*_: Any) -> Iterator[Finding]:
        idle.append(not used[0].in_transaction())
        process = used[0].execute(text("SELECT pg_backend_pid()")).scalar()
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
        yield Finding("beat", OK, "one runs")

    monkeypatch.setattr(towers, "towers", look)
    monkeypatch.setattr(beat, "beat", wait)
    found = list(doctor.examine(Settings(database_url=database_url, broker_url=broker_url, home=tmp_path)))
    assert idle == [True]
    assert [each.part for each in found if each.level == PROBLEM and "terminating connection" in each.found] == [
        "database"
    ]


def test_packages_below_their_floors_are_named() -> None:
    found = list(machine.packages(["pillow>=999", "keras>=3", "no-such-thing>=1", "numpy>=999; extra == 'gpu'"]))
    assert [(finding.level, finding.found.split()[0]) for finding in found] == [
        (PROBLEM, "pillow"),
        (PROBLEM, "no-such-thing"),
    ]
    assert [finding.level for finding in machine.packages()] == [OK]


@pytest.mark.parametrize(("free", "level"), [(1e12, OK), (3e9, WARNING), (1e8, PROBLEM)])
def test_room_on_disk_is_judged(tmp_path: Path, free: float, level: str) -> None:
    (found,) = machine.home(tmp_path / "not" / "there" / "yet", free=free)
    assert found.level == level


@pytest.mark.parametrize(
    ("told", "driver", "level"),
    [
        ({"gpus": [], "shares_gpu": True}, False, OK),
        ({"gpus": [], "shares_gpu": True}, True, WARNING),
        ({"gpus": ["NVIDIA H100"], "shares_gpu": True}, True, OK),
        ({"gpus": ["NVIDIA H100"], "shares_gpu": False}, True, WARNING),
    ],
    ids=["processor", "unseen GPU", "GPU", "GPU taken whole"],
)
def test_the_device_is_judged(told: dict[str, Any], driver: bool, level: str) -> None:
    found = machine.device(told, driver=driver)
    assert found.level == level
    assert all(name in found.found for name in told["gpus"])
