"""What docs/security.md says of limits and defaults is what the code has."""

import pytest

from tasks import express, query
from tests.security.documented import PAGE
from training.pictures import deadline, sandbox
from twinvec_client.contract.limits import MAX_MESSAGE_BYTES
from twinvec_client.contract.messages import BadMessage, Callback
from worker import callbacks
from worker.audience import BACKLOG
from worker.celeryconfig import celery_config
from worker.settings import Settings
from worker.transport import KEPT

SAID = " ".join(PAGE.split())


@pytest.mark.parametrize(
    "sentence",
    [
        f"msgpack of at most {MAX_MESSAGE_BYTES // 2**20} MiB",
        f"It keeps the last {KEPT}",
        f"where {BACKLOG} messages wait behind one",
        f"One picture may take {deadline.SECONDS:g} s of the processor",
        f"those of a chunk {sandbox.CHUNK_SECONDS:g} s together",
        f"those of a request {query.PICTURES_SECONDS:g} s",
        f"those of a request {express.PICTURES_SECONDS:g} s",
    ],
)
def test_limits_are_those_of_the_page(sentence: str) -> None:
    assert sentence in SAID


def test_figures_are_told_to_nobody_and_events_answer_nobody_unless_that_is_set() -> None:
    fields = Settings.model_fields
    assert (fields["http_port"].default, fields["http_host"].default) == (None, "127.0.0.1")
    assert celery_config(Settings(broker_url="redis://127.0.0.1/0"))["worker_enable_remote_control"] is False


@pytest.mark.parametrize("callback", [Callback("a.task", "shop:unacked"), Callback("shop:x", "orders")])
def test_a_callback_writes_to_no_key_of_the_installation_s_own(callback: Callback) -> None:
    settings = Settings(prefix="shop")
    callbacks.check(Callback("a.task", "shopping"), settings)
    with pytest.raises(BadMessage, match="do not begin with shop:"):
        callbacks.check(callback, settings)
