"""What makes a broker, a home folder, a backend or a setting unfit is found on real ones that are."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pydantic import ValidationError

from db.faults import Fault, Severity
from local.servers.valkey import Valkey
from tests.chaos.disk import Mounted, small_disk
from tests.lacking import lacking
from worker import preflight
from worker.celeryconfig import celery_config
from worker.preflight import StartRefused, backend_faults, broker_faults, home_faults, insist
from worker.runfile import RunFile, RunFileError
from worker.settings import Settings


@pytest.fixture(scope="module")
def valkey(costly: None) -> Iterator[Valkey]:
    """A broker of this module's own."""
    with tempfile.TemporaryDirectory(prefix="twinvec-") as folder:
        valkey = Valkey(Path(folder) / "valkey", Path(folder) / "valkey.log", 0)
        valkey.start()
        yield valkey
        valkey.stop(immediate=True)


@pytest.fixture
def spoilt(valkey: Valkey) -> Iterator["redis.Redis"]:
    """That broker, whose settings a test may spoil."""
    names = ("maxmemory", "maxmemory-policy", "appendonly")
    with redis.Redis.from_url(valkey.url, decode_responses=True) as broker:
        before: dict[str, Any] = {name: broker.config_get(name)[name] for name in names}
        yield broker
        broker.replicaof("NO", "ONE")
        for name, value in before.items():
            broker.config_set(name, value)


def only(faults: Iterator[Fault] | list[Fault], severity: Severity) -> str:
    (fault,) = faults
    assert fault.severity is severity
    return str(fault)


def test_a_broker_that_will_do_has_no_fault(valkey: Valkey) -> None:
    assert broker_faults(valkey.url) == []


def test_a_broker_that_drops_messages_when_it_is_full_is_refused(valkey: Valkey, spoilt: "redis.Redis") -> None:
    spoilt.config_set("maxmemory-policy", "volatile-lru")
    assert "harmless while it has no limit" in only(broker_faults(valkey.url), Severity.WARNING)
    spoilt.config_set("maxmemory", "100mb")
    said = only(broker_faults(valkey.url), Severity.REFUSAL)
    assert said.endswith("it drops messages when it is full: set maxmemory-policy to noeviction")


def test_a_broker_without_a_copy_on_disk_is_warned_of(valkey: Valkey, spoilt: "redis.Redis") -> None:
    spoilt.config_set("appendonly", "no")
    assert "set appendonly to yes" in only(broker_faults(valkey.url), Severity.WARNING)


def test_a_replica_is_refused(valkey: Valkey, spoilt: "redis.Redis", broker_url: str) -> None:
    primary = broker_url.removeprefix("redis://").removesuffix("/0")
    spoilt.replicaof(*primary.split(":"))
    said = only(broker_faults(valkey.url), Severity.REFUSAL)
    assert said.startswith(f"the broker is a replica of {primary}, which takes no messages: set TWINVEC_BROKER_URL")


def test_an_old_broker_is_refused(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "BROKERS", {"valkey": "99", "redis": "99"})
    assert only(broker_faults(valkey.url), Severity.REFUSAL).endswith("is too old: use valkey 99 or newer")


def test_a_user_who_may_not_ask_is_not_refused(valkey: Valkey, spoilt: "redis.Redis") -> None:
    spoilt.config_set("maxmemory", "100mb")
    spoilt.config_set("maxmemory-policy", "allkeys-lru")
    shy = valkey.url.replace("redis://", "redis://shy:pass@")
    spoilt.acl_setuser("shy", enabled=True, passwords=["+pass"], categories=["+@all"], commands=["-info"], keys=["*"])
    assert broker_faults(shy) == []
    spoilt.acl_setuser("shy", enabled=True, commands=["+info", "-time"])
    assert len(broker_faults(shy)) == 1


def test_a_refusal_ends_a_start_and_a_warning_does_not() -> None:
    warning, refusal = Fault("cold", "wait", Severity.WARNING), Fault("broken", "mend it")
    assert insist([warning]) == [warning]
    with pytest.raises(StartRefused, match=r"^broken: mend it$"):
        insist([warning, refusal])


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "home"):
        said = only(home_faults(folder), Severity.REFUSAL)
        assert said.startswith(f"cannot write to {folder}")
        assert said.endswith("set TWINVEC_HOME to a folder of your own")
    assert list(home_faults(tmp_path / "new", free=1e12)) == []


def test_a_home_that_is_mounted_to_be_read_only_is_refused(costly: None) -> None:
    with small_disk() as disk:
        if not isinstance(disk, Mounted):
            lacking("a file system of its own, which root may mount")
        subprocess.run(["mount", "-o", "remount,ro", disk.folder], check=True)
        assert only(home_faults(disk.folder / "home"), Severity.REFUSAL).startswith("cannot write to")


def test_a_full_disk_is_refused(costly: None) -> None:
    with small_disk() as disk:
        if not isinstance(disk, Mounted):
            lacking("a file system of its own, which root may mount")
        assert "are free in" in only(home_faults(disk.folder / "home"), Severity.PROBLEM)
        disk.fill(psutil.Process())
        said = only(home_faults(disk.folder / "home"), Severity.REFUSAL)
        assert said.startswith(f"only 0 MB are free in {disk.folder / 'home'}: make room")


def test_a_home_of_another_user_is_named_with_its_owner() -> None:
    if os.geteuid() != 0:
        said = only(home_faults(Path("/usr/lib"), free=1e12), Severity.REFUSAL)
        assert said.startswith("cannot write to /usr/lib, which belongs to the user root: run as root, or set TWINVEC_")
        return
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, 54321, 54321)
        said = only(home_faults(Path(home), free=1e12), Severity.WARNING)
        assert said.startswith(f"{home} belongs to the user 54321, who cannot use what another user writes there: run ")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("abacus", "KERAS_BACKEND=abacus is not a backend: set it to tensorflow, jax or torch"),
        ("jax", "KERAS_BACKEND=jax, and jax is not installed: install it, or unset KERAS_BACKEND"),
    ],
)
def test_a_backend_that_cannot_be_loaded_is_refused(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    assert only(backend_faults({"KERAS_BACKEND": name}), Severity.REFUSAL) == said


def test_the_default_backend_has_no_fault() -> None:
    assert list(backend_faults({})) == list(backend_faults({"KERAS_BACKEND": "tensorflow"})) == []


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("train_cron", "0 3 * *", "expected five cron fields"),
        ("train_cron", "61 3 * * *", "61"),
        ("train_cron", "0 3 * * moonday", "moonday"),
        ("broker_url", "localhost:6379", "it is not a URL, and must begin with redis:// or rediss://"),
        ("broker_url", "amqp://guest:hidden@localhost", "it begins with amqp://, and must begin with redis://"),
        ("broker_url", "secret hidden://x", "it is not a URL"),
        (
            "database_url",
            "mysql://root:hidden@localhost/x",
            "it begins with mysql://, and must begin with postgresql://",
        ),
        ("home", "~nobody-of-this-name/x", "it is not a folder"),
        *((name, "", "it is empty: give it a value, or unset it") for name in Settings.model_fields),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_no_password(
    setting: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TWINVEC_{setting.upper()}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    (error,) = refused.value.errors()
    assert error["loc"] == (setting,)
    assert said in error["msg"]
    assert "hidden" not in error["msg"]


def test_a_wrong_setting_can_be_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINVEC_HOME", str(tmp_path))
    assert Settings.tolerant() == (Settings(), None)
    monkeypatch.setenv("TWINVEC_LEASE", "soon")
    monkeypatch.setenv("TWINVEC_BROKER_URL", "")
    settings, wrong = Settings.tolerant()
    assert (settings.home, settings.lease, settings.broker_url) == (tmp_path, 60, None)
    assert wrong is not None
    assert {each["loc"][0] for each in wrong.errors()} == {"lease", "broker_url"}


def test_a_cron_that_is_right_becomes_celery_s_schedule() -> None:
    (entry,) = [
        entry
        for name, entry in celery_config(Settings(train_cron="*/20 3 * * mon-fri"))["beat_schedule"].items()
        if name == "retrain"
    ]
    assert (entry["schedule"].minute, entry["schedule"].hour) == ({0, 20, 40}, {3})
    assert entry["schedule"].day_of_week == {1, 2, 3, 4, 5}


def test_a_note_of_a_stack_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0")
    assert settings.running() is None
    (tmp_path / "run.json").write_text('{"broker_url": ')
    with pytest.raises(RunFileError, match=r"cannot read .*run\.json \(it is damaged\): .*`twinvec down`"):
        settings.database()
    assert settings.broker() == "redis://127.0.0.1:1/0", "who is told needs no note"
    assert RunFile.read(tmp_path / "run.json") is None
    (tmp_path / "run.json").write_text("[" * 100_000)
    assert RunFile.read(tmp_path / "run.json") is None
    (tmp_path / "run.json").unlink()
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunFileError, match="Is a directory"):
        Settings(home=tmp_path, broker_url=None).broker()
