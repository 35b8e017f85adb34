"""`twinvec web`: where it listens, and what it wants before it does."""

import asyncio
import socket
import sys

import pytest
from pydantic import SecretStr

from cli.commands import web
from cli.errors import CommandError
from worker.settings import Settings

TOKEN = SecretStr("correct-horse-battery")


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_only_this_machine_is_served_without_a_token(host: str, is_loopback: bool) -> None:
    assert web.is_loopback(host) is is_loopback
    if is_loopback:
        assert web.checked_token(Settings(web_token=None), host) is None
    else:
        with pytest.raises(CommandError, match="TWINVEC_WEB_TOKEN"):
            web.checked_token(Settings(web_token=None), host)
    assert web.checked_token(Settings(web_token=TOKEN), host) == TOKEN.get_secret_value()


@pytest.mark.parametrize("token", ["", "short"])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(CommandError, match="guessed"):
        web.checked_token(Settings(web_token=SecretStr(token)), "127.0.0.1")


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CommandError, match="--port picks another"):
        web._listen("127.0.0.1", taken.getsockname()[1])


def test_a_report_that_cannot_be_made_is_an_error_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError):
        asyncio.run(web.report(1))
