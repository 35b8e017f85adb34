"""Broker and database over TLS: only the servers that the certificates name are talked to."""

from collections.abc import Iterator

import psycopg
import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import URL, text
from sqlalchemy import exc as sqlalchemy_errors

from cli.connect import check_broker
from cli.errors import CommandError
from db.engine import connect
from tests.security.conftest import Users, tls_broker_url, tls_database_url, to_broker, to_database
from tests.security.tls import Authority, Terminator
from twinvec_client import BrokerUnavailable, NoAnswer, Twinvec
from worker.celeryconfig import celery_config
from worker.settings import Settings


def ways_in(url: str) -> list[str]:
    """Which of the three that connect to a broker get through: the command, a worker, an application."""
    found = []
    try:
        check_broker(Settings(broker_url=url).broker())
        found.append("command")
    except CommandError:
        pass
    worker = Celery(set_as_current=False)
    worker.conf.update(celery_config(Settings(broker_url=url)))
    try:
        with worker.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
        found.append("worker")
    except (OperationalError, redis.RedisError, OSError):
        pass
    try:
        Twinvec(url, answer_timeout=0.1).jobs()
    except NoAnswer:  # no worker runs here, and the broker took the request
        found.append("application")
    except BrokerUnavailable:
        pass
    return found


EVERYBODY = ["command", "worker", "application"]


@pytest.fixture(scope="module")
def misnamed(authority: Authority, users: Users) -> Iterator[Terminator]:
    """A broker whose certificate is good, and another host's."""
    terminator = Terminator(authority.server("DNS:elsewhere.example"), to_broker(users))
    yield terminator
    terminator.close()


def test_the_broker_whose_certificate_the_authority_signed_is_taken(
    broker_tls: Terminator, authority: Authority
) -> None:
    assert ways_in(tls_broker_url(broker_tls, "default", authority)) == EVERYBODY


def test_a_broker_that_another_authority_signed_is_refused(broker_tls: Terminator, stranger: Authority) -> None:
    assert ways_in(tls_broker_url(broker_tls, "default", stranger)) == []


def test_a_certificate_is_checked_where_the_url_says_nothing_of_it(broker_tls: Terminator) -> None:
    assert ways_in(tls_broker_url(broker_tls, "default")) == []
    assert ways_in(tls_broker_url(broker_tls, "default", ssl_cert_reqs="none")) == EVERYBODY


def test_the_machine_s_own_authorities_are_trusted_where_the_url_names_none(
    broker_tls: Terminator, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # where OpenSSL has them
    assert ways_in(tls_broker_url(broker_tls, "default")) == EVERYBODY


def test_the_certificate_of_another_host_is_refused(misnamed: Terminator, authority: Authority) -> None:
    assert ways_in(tls_broker_url(misnamed, "default", authority)) == []


def test_a_plain_connection_to_a_broker_with_tls_is_refused(broker_tls: Terminator) -> None:
    assert ways_in(f"redis://127.0.0.1:{broker_tls.port}/0") == []


def reaches(url: str) -> bool:
    """Whether the ledger's engine gets through to the database."""
    engine = connect(Settings(database_url=url).database() or "")
    try:
        with engine.connect() as connection:
            return bool(connection.execute(text("SELECT true")).scalar_one())
    except sqlalchemy_errors.OperationalError as error:
        assert isinstance(error.orig, psycopg.OperationalError)
        return False
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def misnamed_database(authority: Authority, roles: URL) -> Iterator[Terminator]:
    terminator = Terminator(authority.server("DNS:elsewhere.example"), to_database(roles), postgres=True)
    yield terminator
    terminator.close()


def test_the_database_whose_certificate_the_authority_signed_is_taken(
    database_tls: Terminator, authority: Authority
) -> None:
    assert reaches(tls_database_url(database_tls, "twinvec_worker", authority, sslmode="verify-full"))


def test_encryption_without_a_check_of_the_certificate_is_to_be_had(database_tls: Terminator) -> None:
    assert reaches(tls_database_url(database_tls, "twinvec_worker", sslmode="require"))


def test_a_database_that_another_authority_signed_is_refused(database_tls: Terminator, stranger: Authority) -> None:
    assert not reaches(tls_database_url(database_tls, "twinvec_worker", stranger, sslmode="verify-full"))


def test_a_database_with_the_certificate_of_another_host_is_refused(
    misnamed_database: Terminator, authority: Authority
) -> None:
    assert reaches(tls_database_url(misnamed_database, "twinvec_worker", authority, sslmode="verify-ca"))
    assert not reaches(tls_database_url(misnamed_database, "twinvec_worker", authority, sslmode="verify-full"))


def test_a_plain_connection_to_a_database_with_tls_is_refused(database_tls: Terminator) -> None:
    assert not reaches(tls_database_url(database_tls, "twinvec_worker", sslmode="disable"))


def test_without_a_mode_a_database_without_tls_is_talked_to_in_plain_text_and_with_one_it_is_refused(
    roles: URL,
) -> None:
    plain = Terminator(None, to_database(roles), postgres=True)
    try:
        assert reaches(tls_database_url(plain, "twinvec_worker"))
        assert not reaches(tls_database_url(plain, "twinvec_worker", sslmode="require"))
    finally:
        plain.close()
