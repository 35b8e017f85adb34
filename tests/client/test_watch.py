"""How a job ended is asked for no more than it has to be."""

from types import SimpleNamespace

import pytest

from twinvec_client import watch
from twinvec_client.watch import Ended


@pytest.mark.parametrize(("later", "known"), [(50.0, True), (70.0, False)])
def test_an_end_that_is_known_is_told_once_and_for_a_minute(
    monkeypatch: pytest.MonkeyPatch, later: float, known: bool
) -> None:
    """Who sends thousands of small jobs comes to wait for the first of them when the last one is sent."""
    now = 1000.0
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now))
    status = object()
    ended = Ended(status)  # type: ignore[arg-type]  # whatever it is
    now += later
    assert ended.take() is (status if known else None)
    assert ended.take() is None
