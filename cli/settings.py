"""The settings of this call, and the client made from them."""

from __future__ import annotations

from twinvec_client import Twinvec
from worker.settings import Settings


def client(*, answer_timeout: float = 30.0) -> Twinvec:
    """A client of the broker that is set, or of the stack that runs in the home folder."""
    return Twinvec(Settings().broker(), answer_timeout=answer_timeout)
