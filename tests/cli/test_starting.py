"""What a start refuses is one sentence of the command, and what `twinvec doctor` finds; nothing starts."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import URL, Engine, text

from cli import exit_codes
from cli.doctor.beat import beat as check_beats
from cli.doctor.finding import OK, PROBLEM, WARNING
from local.servers.postgres import SYSTEM_USER
from tests.cli.conftest import Twinvec
from tests.cli.test_errors import sentence
from tests.lacking import lacking
from tests.makers import eventually
from worker import beats

LATIN = "the database latin has the encoding LATIN1 and not UTF8: make one with CREATE DATABASE"
EVICTS = "its maxmemory-policy is allkeys-lru: it drops messages when it is full: set maxmemory-policy to noeviction"
NO_BACKEND = {"KERAS_BACKEND": "abacus"}  # the doctor then loads none, which takes it seconds
AS_ANOTHER_USER = """if True:
    import os, pwd, sys
    import cli.calling, cli.commands.health, cli.commands.up, cli.main  # before: this user may not read our modules
    user = pwd.getpwnam(sys.argv.pop(1))
    os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid)
    cli.main.main()
"""
AN_HOUR_AHEAD = "import time; real = time.time; time.time = lambda: real() + 3600"


def found(twinvec: Twinvec, part: str, **settings: str) -> list[tuple[str, str]]:
    """What the doctor finds of a part, as its level and sentence."""
    done = twinvec("doctor", "--json", **settings, **NO_BACKEND)
    assert "Traceback" not in done.stderr
    findings = json.loads(done.stdout)
    return [(each["level"], f"{each['found']}: {each['advice']}") for each in findings if each["part"] == part]


@pytest.fixture
def latin(operator: Engine, server_url: URL) -> Iterator[str]:
    """A database in LATIN1."""
    with operator.connect() as connection:
        connection.execute(
            text("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
        )
        yield server_url.set(database="latin").render_as_string(hide_password=False)
        connection.execute(text("DROP DATABASE latin WITH (FORCE)"))


@pytest.fixture
def evicting(broker: "redis.Redis", broker_url: str) -> Iterator[str]:
    """The broker, which drops keys when it is full."""
    before: dict[str, Any] = {name: broker.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy")}
    broker.config_set("maxmemory", "100mb")
    broker.config_set("maxmemory-policy", "allkeys-lru")
    yield broker_url
    for name, value in before.items():
        broker.config_set(name, value)


@pytest.mark.parametrize("command", ["migrate", "worker --lanes intake", "up --detach", "health"])
def test_a_database_that_will_not_do_is_refused_by_every_command(
    twinvec: Twinvec, latin: str, broker_url: str, command: str
) -> None:
    refused = twinvec(*command.split(), TWINVEC_DATABASE_URL=latin, TWINVEC_BROKER_URL=broker_url)
    assert LATIN in sentence(refused, exit_codes.REFUSED)


def test_the_doctor_finds_it_in_the_same_words(twinvec: Twinvec, latin: str, broker_url: str) -> None:
    findings = found(twinvec, "database", TWINVEC_DATABASE_URL=latin, TWINVEC_BROKER_URL=broker_url)
    assert [level for level, _ in findings] == [OK, PROBLEM]
    assert findings[1][1].startswith(LATIN)


@pytest.mark.parametrize("command", ["worker --lanes intake", "beat", "up", "health"])
def test_a_broker_that_will_not_do_is_refused_by_every_command(
    twinvec: Twinvec, evicting: str, database_url: str, command: str
) -> None:
    refused = twinvec(*command.split(), TWINVEC_DATABASE_URL=database_url, TWINVEC_BROKER_URL=evicting)
    assert EVICTS in sentence(refused, exit_codes.REFUSED)


def test_a_worker_on_a_database_that_was_never_migrated_is_told_to_migrate(
    twinvec: Twinvec, empty_database_url: str, broker_url: str
) -> None:
    refused = twinvec("worker", TWINVEC_DATABASE_URL=empty_database_url, TWINVEC_BROKER_URL=broker_url)
    assert "no Twinvec tables yet: run `twinvec migrate`" in sentence(refused, exit_codes.REFUSED)


def test_more_processes_than_connections_are_refused_with_the_numbers(
    twinvec: Twinvec, database_url: str, broker_url: str
) -> None:
    settings = {"TWINVEC_DATABASE_URL": database_url, "TWINVEC_BROKER_URL": broker_url}
    refused = twinvec("worker", "--lanes", "intake", "--processes", "25", **settings)
    assert "admits 97 connections, and 25 processes need 100 (4 each)" in sentence(refused, exit_codes.REFUSED)
    findings = found(twinvec, "database", **settings, TWINVEC_INTAKE_PROCESSES="21")
    assert any(level == PROBLEM and "and 25 processes need 100" in said for level, said in findings)


@pytest.mark.parametrize("command", [["worker"], ["up", "--detach"]])
def test_a_backend_that_is_none_is_refused(twinvec: Twinvec, broker_url: str, command: list[str]) -> None:
    refused = twinvec(
        *command, KERAS_BACKEND="abacus", TWINVEC_BROKER_URL=broker_url, TWINVEC_DATABASE_URL="postgresql:///x"
    )
    assert "KERAS_BACKEND=abacus is not a backend" in sentence(refused, exit_codes.REFUSED)


def test_an_hour_between_the_clocks_is_told_by_health_s_doctor_and_refuses_nothing(
    twinvec: Twinvec, tmp_path: Path, database_url: str, broker_url: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AN_HOUR_AHEAD)
    settings = {
        "TWINVEC_DATABASE_URL": database_url,
        "TWINVEC_BROKER_URL": broker_url,
        "PYTHONPATH": str(tmp_path),
    }
    for part, whose in (("broker", "the broker's"), ("database", "the database's")):
        (said,) = [said for level, said in found(twinvec, part, **settings) if level == WARNING]
        assert said.startswith(f"{whose} clock is 3,600 s behind this machine's: have NTP set both")
    assert twinvec("health", **settings).returncode == 0


WRONG = {
    "TWINVEC_BROKER_URL": "localhost:6379",
    "TWINVEC_DATABASE_URL": "mysql://root:hidden@localhost/x",
    "TWINVEC_TRAIN_CRON": "every night",
    "TWINVEC_LEASE": "",
}


@pytest.mark.parametrize(
    ("command", "name"), [*zip(["migrate", "worker", "beat", "up"], WRONG, strict=True), ("health", "TWINVEC_LEASE")]
)
def test_a_wrong_setting_is_one_sentence_that_names_it(twinvec: Twinvec, command: str, name: str) -> None:
    said = sentence(twinvec(command, **{name: WRONG[name]}), exit_codes.REFUSED)
    assert said.startswith(f"twinvec: {name}")
    assert "hidden" not in said


def test_down_and_doctor_work_whatever_the_settings_say(twinvec: Twinvec, tmp_path: Path) -> None:
    stopped = twinvec("down", **WRONG)
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert f"nothing runs in {tmp_path / 'home'}" in stopped.stdout
    done = twinvec("doctor", "--json", **WRONG, **NO_BACKEND)
    findings = [each for each in json.loads(done.stdout) if each["part"] == "settings"]
    assert [each["level"] for each in findings] == [PROBLEM] * len(WRONG)
    assert all(any(each["found"].startswith(name) for each in findings) for name in WRONG)
    assert '"broker"' not in done.stdout, "nothing is known of a broker whose URL is wrong"


def test_a_damaged_note_of_a_stack_is_told_of_and_down_clears_it(twinvec: Twinvec, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    note = tmp_path / "home" / "run.json"
    note.write_text("{")
    assert f"cannot read {note} (it is damaged)" in sentence(twinvec("health"), exit_codes.REFUSED)
    assert any(level == PROBLEM and f"cannot read {note}" in said for level, said in found(twinvec, "home"))
    assert twinvec("down").returncode == 0
    assert not note.exists()


def test_another_user_s_home_is_refused_with_the_owner_s_name(servers: object) -> None:
    if os.geteuid() != 0:
        lacking("root, to become another user")
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        note = Path(home) / "run.json"
        note.write_text("{}")
        note.chmod(0o600)
        said = {}
        for command in (["up"], ["health"]):
            refused = subprocess.run(
                [sys.executable, "-c", AS_ANOTHER_USER, SYSTEM_USER, *command],
                env={"TWINVEC_HOME": home, "PATH": os.defpath},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            said[command[0]] = sentence(refused, exit_codes.REFUSED)
    assert f"cannot write to {home}, which belongs to the user root: run as root, or set TWINVEC_HOME" in said["up"]
    assert f"cannot read {note} (Permission denied): run as the user who started the stack" in said["health"]


def test_two_schedulers_are_named_by_the_doctor_and_by_the_second(
    broker: "redis.Redis", broker_url: str, tmp_path: Path
) -> None:
    assert [finding.level for finding in check_beats(broker_url)] == [PROBLEM]
    with ExitStack() as stack:
        first = stack.enter_context(scheduler(broker_url, tmp_path / "first.log"))
        eventually(lambda: len(beats.running(broker)) == 1, "the first", seconds=30)
        assert [(finding.level, finding.found) for finding in check_beats(broker_url)] == [(OK, named(first))]
        second = stack.enter_context(scheduler(broker_url, tmp_path / "second.log"))
        eventually(lambda: len(beats.running(broker)) == 2, "the second", seconds=30)
        (finding,) = check_beats(broker_url)
        assert finding.level == WARNING
        assert named(first) in finding.found
        assert named(second) in finding.found
        warning, log = f"another scheduler runs: {named(first)}", tmp_path / "second.log"
        eventually(lambda: warning in log.read_text(), "its warning", seconds=30)
        second.terminate()
        second.wait()
        assert beats.running(broker) == [named(first)]
        first.kill()
        first.wait()
        assert beats.running(broker) == [], "a killed one is not counted while its note lapses"


def named(process: "subprocess.Popen[bytes]") -> str:
    return beats.name().replace(str(os.getpid()), str(process.pid), 1)


@contextmanager
def scheduler(broker_url: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A real `twinvec beat`, killed at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "beat"],
            env=os.environ | {"TWINVEC_BROKER_URL": broker_url, "TWINVEC_SWEEP": "3600"},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
