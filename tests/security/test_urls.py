"""What is said about a URL never holds its password, however the URL is written."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from pydantic import ValidationError

from cli import exit_codes
from cli.display.console import masked
from tests.cli.conftest import Twinvec
from twinvec_client import InvalidRequest
from twinvec_client import Twinvec as Client
from twinvec_client.contract.broker import safe_url, transport
from worker.celeryconfig import celery_config
from worker.runfile import RunFile
from worker.settings import OpenBroker, Settings

URLS = {
    "redis://:hidden@broker.example:6379/0": "redis://:***@broker.example:6379/0",
    "redis://user:hidden@broker.example": "redis://user:***@broker.example",
    "redis://user:hid/den@broker.example/0": "redis://user:***@broker.example/0",
    "redis://user:hid@den@broker.example/0": "redis://user:***@broker.example/0",
    "postgresql://user@database.example/x": "postgresql://user@database.example/x",
    "postgresql://database.example/x?user=me&password=hidden&sslmode=require": (
        "postgresql://database.example/x?user=me&password=***&sslmode=require"
    ),
    "sentinel://:hidden@one:26379;sentinel://two/0?master_name=m&sentinel_password=hidden": (
        "sentinel://:***@one:26379;sentinel://two/0?master_name=m&sentinel_password=***"
    ),
    "rubbish": "rubbish",
}
SENTINELS = "sentinel://user:p%2Fw@one;sentinel://two:26380/3?master_name=main&sentinel_password=s%26p"
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


def test_sentinels_are_handed_to_celery_each_with_the_primary_s_password() -> None:
    url, options = transport(SENTINELS, retry=None)
    assert url == "sentinel://user:p%2Fw@one:26379/3;sentinel://user:p%2Fw@two:26380/3"
    assert options["master_name"] == "main"
    assert options["sentinel_kwargs"]["password"] == "s&p"
    configured = celery_config(Settings(broker_url=SENTINELS))
    assert configured["broker_url"] == configured["result_backend"] == url
    for name in ("broker_transport_options", "result_backend_transport_options"):
        assert configured[name]["master_name"] == "main"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sentinel://one:26379;sentinel://two:26379/0", "master_name"),
        ("sentinel://:26379;sentinel://two/0?master_name=main", "no host"),
        ("sentinel://one/0?master_name=main&ssl_cert_reqs=required", "ssl_cert_reqs"),
        ("sentinel://one;sentinel://:hid/den@two/0?master_name=main", "%2F"),
    ],
)
def test_sentinels_that_cannot_be_asked_are_refused(url: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        Client(url)
    assert "den" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "guarded"),
    [
        (SENTINELS, True),
        ("sentinel://127.0.0.1;sentinel://localhost/0?master_name=main", True),
        ("sentinel://127.0.0.1;sentinel://two/0?master_name=main", False),
        ("sentinel://user@two/0?master_name=main", False),
    ],
)
def test_brokers_behind_sentinels_need_a_password_as_any_other(url: str, guarded: bool) -> None:
    with nullcontext() if guarded else pytest.raises(OpenBroker):
        Settings(broker_url=url).guarded_broker()


@pytest.mark.parametrize("prefix", ["", "a:b", "a b", "*", "x" * 65])
def test_a_prefix_that_could_be_taken_for_another_s_is_refused_by_both_sides(prefix: str) -> None:
    with pytest.raises(ValidationError):
        Settings(prefix=prefix)
    with pytest.raises(InvalidRequest, match="prefix: "):
        Client(prefix=prefix)


def test_a_prefix_stands_before_every_key() -> None:
    configured = celery_config(Settings(broker_url="redis://localhost/0", prefix="staging"))
    for options in ("broker_transport_options", "result_backend_transport_options"):
        assert configured[options]["global_keyprefix"] == "staging:"


def test_the_prefix_of_a_running_stack_is_known_in_its_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, broker_url=None)
    assert settings.lane_prefix() == "twinvec"
    RunFile("redis://x", "postgresql://x", supervisor=1, created=0.0, prefix="staging").write(settings.run_file)
    assert settings.lane_prefix() == "staging"
    assert Settings(home=tmp_path, broker_url="redis://localhost/0").lane_prefix() == "twinvec"
