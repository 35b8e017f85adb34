"""What is said about a URL never holds its password, however the URL is written."""

import pytest

from cli import exit_codes
from cli.display.console import masked
from tests.cli.conftest import Twinvec
from twinvec_client import InvalidRequest
from twinvec_client import Twinvec as Client
from twinvec_client.contract.broker import safe_url
from worker.celeryconfig import celery_config
from worker.settings import Settings

URLS = {
    "redis://:hidden@broker.example:6379/0": "redis://:***@broker.example:6379/0",
    "redis://user:hidden@broker.example": "redis://user:***@broker.example",
    "redis://user:hid/den@broker.example/0": "redis://user:***@broker.example/0",
    "redis://user:hid@den@broker.example/0": "redis://user:***@broker.example/0",
    "postgresql://user@database.example/x": "postgresql://user@database.example/x",
    "postgresql://database.example/x?user=me&password=hidden&sslmode=require": (
        "postgresql://database.example/x?user=me&password=***&sslmode=require"
    ),
    "rubbish": "rubbish",
}
BADLY_WRITTEN = ["hid/den", "hid#den", "hid?den", "hid@den"]


@pytest.mark.parametrize(("url", "shown"), URLS.items())
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize("password", BADLY_WRITTEN)
def test_a_password_that_cuts_the_url_in_two_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(InvalidRequest, match="%2F") as refused:
        Client(f"redis://:{password}@127.0.0.1/0")
    assert "den" not in str(refused.value)


def test_the_command_refuses_it_as_well(twinvec: Twinvec) -> None:
    refused = twinvec("health", TWINVEC_DATABASE_URL="postgresql://user:hid/den@127.0.0.1/x")
    assert refused.returncode == exit_codes.REFUSED
    assert "twinvec: TWINVEC_DATABASE_URL: " in refused.stderr
    assert "hid" not in refused.stderr
    assert "den" not in refused.stderr


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("rediss://broker.example/0", "rediss://broker.example/0?ssl_cert_reqs=required"),
        ("rediss://b/0?ssl_ca_certs=%2Fca.pem", "rediss://b/0?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=required"),
        ("rediss://broker.example/0?ssl_cert_reqs=none", "rediss://broker.example/0?ssl_cert_reqs=none"),
        ("redis://broker.example/0", "redis://broker.example/0"),
    ],
)
def test_certificates_are_checked_unless_the_url_says_otherwise(url: str, safe: str) -> None:
    assert safe_url(url) == safe
    assert celery_config(Settings(broker_url=url, open_broker=True))["result_backend"] == safe
