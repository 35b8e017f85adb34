"""What users can cause is said in one sentence that leads to the cause, at once; `down` and `doctor` always work."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from cli import exit_codes
from cli.errors import explain
from tests.cli.conftest import Twinvec
from tests.cli.test_errors import sentence
from worker.celeryconfig import celery_config
from worker.cron import schedules
from worker.settings import Settings

NOWHERE = "postgresql://127.0.0.1:1/digits"  # nothing listens there
WRONG = {  # the name without TWINVEC_ -> values that will not do
    "BROKER_URL": ["", "localhost", "redis://h/x", "http://x", "redis://h:x"],
    "DATABASE_URL": ["", "localhost", "mysql://x", "postgresql://127.0.0.1:hidden/x", "postgresql://h:1:2/x"],
    "TRAIN_CRON": [
        "",
        "@reboot",
        "0 3 L * *",
        "99 3 * * *",
        "0 3 * * 8",
        "0 3 * * 1-2-3",
        "*/0 * * * *",
        "5-1 * * * *",
    ],
    "TRAIN_RECIPE": ["", "fast"],
    "LEASE": ["", "0", "nan", "inf", "a minute"],
    "BROKER_PORT": ["", "0", "70000", "x"],
    "HOME": ["", "~nobody-of-this-name/x", "/dev/null", "/dev/null/home"],
    "OPEN_BROKER": ["", "perhaps"],
    "KEEP_JOBS": ["-1", "1e9"],
    "INTAKE_PROCESSES": ["0", "two"],
}


CASES = [(name, value) for name, values in WRONG.items() for value in values if not value.startswith("/dev/null")]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_each_wrong_setting_is_refused_in_a_sentence_and_left_out_by_those_who_must_work(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TWINVEC_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    said, code = explain(refused.value)
    assert code == exit_codes.REFUSED
    assert said.startswith(f"TWINVEC_{name}")
    assert "hidden" not in said
    settings, wrong = Settings.tolerant()
    assert wrong is not None
    assert settings.home.is_absolute()


@pytest.mark.parametrize("command", ["down", "up"])
def test_the_command_says_it_and_down_works(twinvec: Twinvec, command: str) -> None:
    for name in ("TRAIN_CRON", "HOME"):
        done = twinvec(command, **{f"TWINVEC_{name}": WRONG[name][-1]})
        if command == "down":
            assert (done.returncode, done.stderr) == (0, "")
        else:
            assert f"TWINVEC_{name}" in sentence(done, exit_codes.REFUSED)


def test_doctor_works_with_every_setting_wrong(twinvec: Twinvec) -> None:
    wrong = {f"TWINVEC_{name}": values[-1] for name, values in WRONG.items()}
    done = twinvec("doctor", "--json", KERAS_BACKEND="abacus", **wrong)
    findings = json.loads(done.stdout)
    told = " ".join(each["found"] for each in findings)
    assert all(name in told or name == "TWINVEC_HOME" for name in wrong), told
    assert "cannot write to" in told, "the home"


@pytest.mark.parametrize("command", [["migrate"], ["up", "--detach", "--broker-port", "0"]])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (NOWHERE, "Connection refused"),
        (f"{NOWHERE}?sslmode=nonsense", "sslmode"),
        (f"{NOWHERE}?nonsense=1", 'invalid connection option "nonsense"'),
        (f"{NOWHERE}?pooler=session", "only pooler=transaction is known"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_with_its_reason_and_no_link(
    twinvec: Twinvec, command: list[str], url: str, said: str
) -> None:
    refused = twinvec(*command, TWINVEC_DATABASE_URL=url)
    told = sentence(refused, exit_codes.REFUSED)
    assert said in told
    assert "sqlalche.me" not in refused.stderr + refused.stdout


def test_a_backend_that_is_there_and_does_not_load_is_told_at_once(twinvec: Twinvec, tmp_path: Path) -> None:
    """As one does that was built for another machine. The command gives up on a start after 300 s, the test earlier."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')")
    refused = twinvec("up", "--detach", "--broker-port", "0", KERAS_BACKEND="jax", PYTHONPATH=str(tmp_path))
    said = sentence(refused, exit_codes.REFUSED)
    assert "cannot load what it needs: ImportError: libcuda.so.1" in said


def test_a_backend_that_ends_its_process_is_told_as_well(twinvec: Twinvec, tmp_path: Path) -> None:
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("import os; os.abort()")
    refused = twinvec("up", "--detach", "--broker-port", "0", KERAS_BACKEND="jax", PYTHONPATH=str(tmp_path))
    assert "cannot load what it needs: its process" in sentence(refused, exit_codes.REFUSED)


def test_what_an_earlier_start_said_is_not_taken_for_this_one_s(twinvec: Twinvec, tmp_path: Path) -> None:
    logs = tmp_path / "home" / "logs"
    logs.mkdir(parents=True)
    for name in ("up", "front", "control", "intake", "embedder", "trainer", "beat"):
        (logs / f"{name}.log").write_text("twinvec: a reason of yesterday\n")
    said = sentence(twinvec("up", "--detach", TWINVEC_DATABASE_URL=NOWHERE), exit_codes.REFUSED)
    assert "Connection refused" in said
    assert "yesterday" not in said


def due(cron: str, *moments: str) -> list[bool]:
    """Whether a cron is due at each moment, as `2026-11-22 03:00`."""
    when = [datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in moments]
    return [any(_matches(schedule, moment) for schedule in schedules(cron)) for moment in when]


def _matches(schedule: object, at: datetime) -> bool:
    known: dict[str, set[int]] = vars(schedule)
    return (
        at.minute in known["minute"]
        and at.hour in known["hour"]
        and at.day in known["day_of_month"]
        and at.month in known["month_of_year"]
        and at.isoweekday() % 7 in known["day_of_week"]
    )


SUNDAY, MONDAY, THE_15TH = "2026-11-22 03:00", "2026-11-23 03:00", "2026-12-15 03:00"  # which is a Tuesday


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 3 * * 7", [True, False, False]),
        ("0 3 * * 0", [True, False, False]),
        ("0 3 * * sun", [True, False, False]),
        ("0 3 * * 5-7", [True, False, False]),
        ("0 3 * * 1,7", [True, True, False]),
        ("0 3 15 * 1", [False, True, True]),  # either, as cron has it
        ("0 3 15 dec *", [False, False, True]),
        ("0 3 */2 * 2", [False, False, True]),  # a field that begins with * limits nothing by itself
        ("*/30 1-3/2 * * *", [True, True, True]),
        ("@hourly", [True, True, True]),
        ("@daily", [False, False, False]),
    ],
)
def test_a_schedule_is_read_as_cron_reads_it(cron: str, days: list[bool]) -> None:
    assert due(cron, SUNDAY, MONDAY, THE_15TH) == days


def test_both_schedules_of_a_cron_ask_for_a_training() -> None:
    entries = celery_config(Settings(train_cron="0 3 15 * 1", broker_url="redis://localhost/0"))["beat_schedule"]
    assert len({str(entry["schedule"]) for name, entry in entries.items() if "retrain" in name}) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "/proc/self/mem"],
        ["show", "/"],
        ["show", "/dev/null"],
        ["nearest", "/dev/null"],
        ["job", "nonsense"],
        ["failures", "\udc80"],
        ["requeue", "99999999999999999999"],
        ["train", "--recipe", "nonsense"],
        ["tower", "nonsense"],
        ["map", "-o", "/dev/null/x.png"],
        ["suspects", "--collection", "x" * 1000],
        ["embed", ".", "--collection", ""],
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_no_argument_is_answered_with_unexpected(twinvec: Twinvec, arguments: list[str]) -> None:
    done = twinvec(*arguments, TWINVEC_BROKER_URL="redis://127.0.0.1:1/0")
    assert done.returncode != 0
    assert not re.search(r"unexpected \w+:", done.stderr)
    assert "Traceback" not in done.stderr
