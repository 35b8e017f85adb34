"""What goes wrong is one clear sentence and an exit status, never a traceback."""

import socket
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from cli import errors, exit_codes
from tests.cli.conftest import Twinvec
from twinvec_client import NoAnswer


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def sentence(refused: "object", code: int) -> str:
    """What a refused command said on stderr. Fails where it is not one line, or the exit status is another."""
    text: str = refused.stderr  # type: ignore[attr-defined]  # a CompletedProcess
    assert "Traceback" not in text
    assert refused.returncode == code, text  # type: ignore[attr-defined]  # a CompletedProcess
    said = [line for line in text.splitlines() if line.startswith("twinvec: ")]
    assert len(said) == 1, text
    return said[0]


@pytest.mark.parametrize("command", [["towers"], ["jobs"], ["train"], ["nearest", "--key", "7"], ["cancel", "x"]])
def test_no_broker(twinvec: Twinvec, closed_port: int, command: list[str]) -> None:
    refused = twinvec(*command, TWINVEC_BROKER_URL=f"redis://:secret@127.0.0.1:{closed_port}/0")
    said = sentence(refused, exit_codes.NO_ANSWER)
    assert f"no broker at redis://:***@127.0.0.1:{closed_port}/0" in said
    assert "twinvec up" in said


def test_a_broker_url_that_is_none(twinvec: Twinvec) -> None:
    said = sentence(twinvec("towers", TWINVEC_BROKER_URL="rubbish"), exit_codes.REFUSED)
    assert "TWINVEC_BROKER_URL: it is not a URL" in said


@pytest.mark.parametrize("command", ["worker", "migrate"])
def test_no_database_is_set(twinvec: Twinvec, command: str) -> None:
    assert "TWINVEC_DATABASE_URL" in sentence(twinvec(command), exit_codes.REFUSED)


def test_a_database_that_does_not_answer(twinvec: Twinvec, closed_port: int) -> None:
    url = f"postgresql://127.0.0.1:{closed_port}/digits"
    assert "Connection refused" in sentence(twinvec("migrate", TWINVEC_DATABASE_URL=url), exit_codes.REFUSED)


def test_a_database_url_that_is_none(twinvec: Twinvec) -> None:
    refused = twinvec("migrate", TWINVEC_DATABASE_URL="rubbish")
    assert "TWINVEC_DATABASE_URL" in sentence(refused, exit_codes.REFUSED)


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_taken_port(twinvec: Twinvec, taken_port: int, detach: list[str]) -> None:
    said = sentence(twinvec("up", *detach, "--broker-port", str(taken_port)), exit_codes.REFUSED)
    assert f"port {taken_port} " in said
    assert "TWINVEC_BROKER_PORT" in said


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_an_unwritable_home(twinvec: Twinvec, tmp_path: Path, detach: list[str]) -> None:
    (tmp_path / "file").touch()
    said = sentence(twinvec("up", *detach, TWINVEC_HOME=str(tmp_path / "file" / "home")), exit_codes.REFUSED)
    assert "cannot write to" in said
    assert "TWINVEC_HOME" in said


def test_a_setting_out_of_its_limits_is_named(twinvec: Twinvec) -> None:
    assert "TWINVEC_BROKER_PORT=99999" in sentence(twinvec("towers", TWINVEC_BROKER_PORT="99999"), exit_codes.REFUSED)


def test_a_lane_that_does_not_exist(twinvec: Twinvec) -> None:
    assert "no lane fast" in sentence(twinvec("worker", "--lanes", "query,fast"), exit_codes.USAGE)


def test_a_picture_that_is_not_there(twinvec: Twinvec, tmp_path: Path) -> None:
    assert "No such file" in sentence(twinvec("show", str(tmp_path / "none.png")), exit_codes.REFUSED)


def test_a_picture_that_is_none(twinvec: Twinvec, tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no picture")
    assert "picture" in sentence(twinvec("show", str(tmp_path / "note.png")), exit_codes.REFUSED)


def test_neither_a_picture_nor_a_key_is_a_matter_of_usage(twinvec: Twinvec) -> None:
    refused = twinvec("nearest")
    assert refused.returncode == exit_codes.USAGE
    assert "Traceback" not in refused.stderr


def test_down_where_nothing_runs_is_no_error(twinvec: Twinvec) -> None:
    stopped = twinvec("down")
    assert stopped.returncode == 0
    assert "nothing runs" in stopped.stdout


def test_an_unexpected_error_is_named_and_its_traceback_can_be_had() -> None:
    said, code = errors.explain(ZeroDivisionError("by [zero]"))
    assert (code, "ZeroDivisionError" in said, "TWINVEC_DEBUG=1" in said) == (exit_codes.REFUSED, True, True)


def test_an_error_says_which_job_keeps_what_was_accepted() -> None:
    error = NoAnswer("no chunk was accepted.")
    error.add_note("Job 17 keeps what was accepted.")
    assert "no chunk was accepted. Start one" in errors.explain(error)[0]
    assert errors.explain(error)[0].endswith("Job 17 keeps what was accepted.")


def test_a_pooler_that_refuses_options_is_answered_with_what_to_add() -> None:
    refused = psycopg.OperationalError("connection failed: FATAL:  unsupported startup parameter: options")
    said, code = errors.explain(OperationalError("", {}, refused))
    assert (code, "pooler=transaction" in said) == (exit_codes.REFUSED, True)


@pytest.mark.parametrize("name", errors.EXPECTED)
def test_every_expected_error_exists(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(import_module(module), kind), Exception)
