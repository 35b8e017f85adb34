"""Workers run what anyone writes to their broker, so they refuse one that is open to everybody."""

import pytest

from cli import exit_codes
from tests.cli.conftest import Twinvec
from worker.celeryconfig import celery_config
from worker.settings import OpenBroker, Settings

GUARDED = [
    "redis://127.0.0.1:6379/0",
    "redis://127.8.9.10/0",
    "redis://[::1]:6379/0",
    "redis://localhost/0",
    "redis:///0",
    "redis+socket:///run/valkey.sock",
    "rediss://broker.example/0",
    "redis://:secret@broker.example/0",
    "redis://worker:secret@10.0.0.7/0",
]
OPEN = [
    "redis://broker.example:6379/0",
    "redis://10.0.0.7/0",
    "redis://[2001:db8::1]/0",
    "redis://worker@broker.example/0",
    "redis://:@broker.example/0",
    "redis://localhost.example/0",
    "redis://0.0.0.0/0",
]


@pytest.mark.parametrize("url", GUARDED)
def test_a_broker_that_is_local_encrypted_or_has_a_password_is_taken(url: str) -> None:
    assert Settings(broker_url=url).guarded_broker().startswith(url)


@pytest.mark.parametrize("url", OPEN)
def test_an_open_broker_is_refused_unless_it_is_meant(url: str) -> None:
    with pytest.raises(OpenBroker, match="TWINVEC_OPEN_BROKER=1"):
        celery_config(Settings(broker_url=url))
    assert celery_config(Settings(broker_url=url, open_broker=True))["broker_url"] == url


@pytest.mark.parametrize("command", ["worker", "beat", "up"])
def test_no_command_that_obeys_the_broker_starts_on_an_open_one(twinvec: Twinvec, command: str) -> None:
    refused = twinvec(command, TWINVEC_BROKER_URL="redis://10.0.0.7/0", TWINVEC_DATABASE_URL="postgresql://10.0.0.7/x")
    assert refused.returncode == exit_codes.REFUSED
    assert "Traceback" not in refused.stderr
    (said,) = [line for line in refused.stderr.splitlines() if line.startswith("twinvec: ")]
    assert "the broker on 10.0.0.7 is open" in said
    assert "TWINVEC_OPEN_BROKER=1" in said
