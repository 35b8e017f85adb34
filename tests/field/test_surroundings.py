"""Variables, files and modules that were meant for other programs change neither where data go nor what is computed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from cli import surroundings
from tests.cli.conftest import Twinvec
from twinvec_client.contract.broker import KEY_PREFIX

ELSEWHERE = "redis://127.0.0.1:1/5"  # nothing listens there
BAD_LOADER = "no.such.module:Loader"

CELERYS = {
    "CELERY_BROKER_URL": ELSEWHERE,
    "CELERY_BROKER_READ_URL": ELSEWHERE,
    "CELERY_BROKER_WRITE_URL": "amqp://guest@localhost//",
    "CELERY_RESULT_BACKEND": "db+sqlite:///elsewhere.db",
    "CELERY_CONFIG_MODULE": "others_settings",
    "CELERY_LOADER": BAD_LOADER,
    "DJANGO_SETTINGS_MODULE": "others_settings",
    "BROKER_URL": ELSEWHERE,
    "RESULT_BACKEND": ELSEWHERE,
}
OTHERS_SETTINGS = """
broker_url = "redis://127.0.0.1:1/5"
task_routes = {"*": {"queue": "theirs"}}
task_compression = "gzip"
task_always_eager = True
result_serializer = "pickle"
"""
ASK = """
import sys
from twinvec_client import NoAnswer, Twinvec
try:
    Twinvec(sys.argv[1], answer_timeout=0.2).jobs()
except NoAnswer:
    print("sent")
"""


@pytest.fixture
def bare(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs Python in a folder of its own, with variables beside the usual ones."""

    def run(code: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "others_settings.py").write_text(OTHERS_SETTINGS)
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=os.environ | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.mark.parametrize("names", [[name] for name in CELERYS] + [list(CELERYS)])
def test_a_client_s_messages_go_where_its_url_says(
    bare: Callable[..., "subprocess.CompletedProcess[str]"],
    names: list[str],
    broker: "redis.Redis",
    broker_url: str,
) -> None:
    done = bare(ASK, broker_url, **{name: CELERYS[name] for name in names})
    assert done.stdout.strip() == "sent", done.stderr
    sent = [json.loads(message) for message in broker.lrange(f"{KEY_PREFIX}control", 0, -1)]
    assert len(sent) == 2, "once, and once more as it was not answered"
    assert all("compression" not in message["headers"] for message in sent)


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_workers_and_the_scheduler_take_their_broker_from_our_settings_alone(
    command: str, tmp_path: Path, broker: "redis.Redis", broker_url: str, database_url: str
) -> None:
    for name in ("tasks.py", "db.py", "worker.py", "celeryconfig.py", "others_settings.py"):
        (tmp_path / name).write_text(OTHERS_SETTINGS)
    variables = CELERYS | {
        "APP": "others_settings",
        "CONFIG_MODULE": "others_settings",
        "LOADER": BAD_LOADER,
        "WORKDIR": "/",
        "PYTHONPATH": str(tmp_path),
        "TWINVEC_BROKER_URL": broker_url,
        "TWINVEC_DATABASE_URL": database_url,
        "TWINVEC_READY_FILE": str(tmp_path / "ready"),
        "TWINVEC_SWEEP": "0.2",
    }
    arguments = ["--lanes", "intake"] if command == "worker" else []
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", command, *arguments],
            env=os.environ | variables,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    try:
        if command == "worker":
            _await(running, (tmp_path / "ready").exists, tmp_path / "log")
        else:
            _await(running, lambda: bool(broker.llen(f"{KEY_PREFIX}control")), tmp_path / "log")
    finally:
        running.terminate()
        running.wait(120)


def _await(running: "subprocess.Popen[bytes]", condition: Callable[[], bool], log: Path) -> None:
    for _ in range(1200):
        if condition():
            return
        try:
            running.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(log.read_text()[-3000:])


POSTGRES = {
    "PGHOST": "127.0.0.1",
    "PGHOSTADDR": "127.0.0.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGDATABASE": "elsewhere",
    "PGSERVICE": "elsewhere",
    "PGOPTIONS": "-c search_path=elsewhere -c default_transaction_read_only=on",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nowhere",
    "PGAPPNAME": "other",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCLIENTENCODING": "LATIN1",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGDATESTYLE": "German",
    "PGTZ": "Asia/Tokyo",
    "PGCHANNELBINDING": "require",
}


@pytest.mark.parametrize("names", [[name] for name in POSTGRES] + [list(POSTGRES)])
def test_postgresql_s_variables_lead_to_no_other_database(
    twinvec: Twinvec, names: list[str], broker_url: str, database_url: str
) -> None:
    variables = {name: POSTGRES[name] for name in names}
    done = twinvec("migrate", TWINVEC_DATABASE_URL=database_url, TWINVEC_BROKER_URL=broker_url, **variables)
    assert done.returncode == 0, done.stderr


def test_no_password_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pgpass").write_text("*:*:*:*:secret")
    (tmp_path / ".pgpass").chmod(0o600)
    _settled(monkeypatch)
    assert not os.path.exists(os.environ["PGPASSFILE"])


KERAS_FILES: list[dict[str, object]] = [
    {"floatx": "float64"},
    {"floatx": "float16"},
    {"image_data_format": "channels_first"},
    {"epsilon": 0.5},
    {"backend": "abacus"},
]
SETTLED = """
from cli import surroundings
surroundings.settle()
from training.backend import keras
layer = keras.layers.Dense(1)
layer.build((1, 1))
print(keras.backend.backend(), keras.config.image_data_format(), keras.config.epsilon(), layer.kernel.dtype,
      keras.config.max_epochs(), keras.config.max_steps_per_epoch())
"""


def test_keras_computes_as_it_is_made_to_whatever_its_file_says(
    bare: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    for each, text in enumerate([*map(json.dumps, KERAS_FILES), json.dumps(_joined()), "{"]):
        home = tmp_path / str(each)
        home.mkdir()
        (home / "keras.json").write_text(text)
    for each in (5, 6):  # each alone takes seconds
        done = bare(SETTLED, KERAS_HOME=str(tmp_path / str(each)), KERAS_MAX_EPOCHS="1", KERAS_MAX_STEPS_PER_EPOCH="1")
        assert done.stdout.split() == ["tensorflow", "channels_last", "1e-07", "float32", "None", "None"], done.stderr


def _joined() -> dict[str, object]:
    return {name: value for file in KERAS_FILES for name, value in file.items()}


@pytest.mark.parametrize(
    "stranger", ["tasks.py", "db.py", "worker.py", "local.py", "training/__init__.py", "tasks/__init__.py"]
)
def test_modules_of_an_application_that_are_called_as_ours_are_not_taken_for_ours(
    twinvec: Twinvec, tmp_path: Path, stranger: str
) -> None:
    (tmp_path / stranger).parent.mkdir(exist_ok=True)
    (tmp_path / stranger).write_text("raise RuntimeError('not ours')")
    done = twinvec("down", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    listed = twinvec("health", PYTHONPATH=str(tmp_path), TWINVEC_BROKER_URL=ELSEWHERE)
    assert "no broker at" in listed.stderr


def test_what_is_left_out_is_said_and_what_is_ours_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "CELERY_BROKER_URL", "PGSERVICEFILE", "KERAS_BACKEND", "TWINVEC_HOME"):
        monkeypatch.setenv(name, "jax")
    _settled(monkeypatch)
    assert surroundings.unread == ["PGHOST"]
    assert not {"PGHOST", "CELERY_BROKER_URL"} & os.environ.keys()
    assert {"PGSERVICEFILE", "KERAS_BACKEND", "TWINVEC_HOME"} <= os.environ.keys()


def test_doctor_says_which_variables_are_not_read(twinvec: Twinvec) -> None:
    done = twinvec("doctor", "--json", PGPASSWORD="hidden", KERAS_BACKEND="abacus")
    (said,) = [each for each in json.loads(done.stdout) if each["found"].startswith("PGPASSWORD")]
    assert said["level"] == "warning"
    assert "hidden" not in done.stdout


def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settle this process, which is put back afterwards."""
    for name in os.environ:
        monkeypatch.setenv(name, os.environ[name])
    monkeypatch.setenv("PGPASSFILE", "")
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", ""))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(surroundings, "unread", [])
    surroundings.settle()
