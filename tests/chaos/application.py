"""The client's side of a case: an application that sends pictures whatever happens, and sends again."""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local.servers.valkey import Valkey
from twinvec_client import Callback, EmbedJob, Failure, Twinvec
from twinvec_client.errors import BrokerUnavailable, DatabaseUnavailable, NoAnswer

CHUNK = 64  # pictures, so that even a short case has batches enough to hurt


class Application:
    """A client of a fleet, as impatient as the fleet's settings; `resubmissions` of jobs whose client got no answer."""

    def __init__(self, broker: Valkey) -> None:
        self.resubmissions = 0
        self._broker = broker

    def client(self, answer_timeout: float = 3) -> Twinvec:
        """A client whose limits are as short as those of the settings."""
        client = Twinvec(self._broker.url, answer_timeout=answer_timeout)
        client.resend_after = 3
        client.outage = 120
        return client

    def embed(
        self,
        pictures: Mapping[str, Any],
        *,
        collection: str = "default",
        key: str | None = None,
        chunk: int = CHUNK,
        pace: Callable[[int], None] = lambda sent: None,
        on_finish: Callback | None = None,
    ) -> str:
        """Send pictures as an application does, sending again under the same key if no answer came; the job's id.

        key: of idempotency; a new one if None. chunk: pictures a chunk, and so a batch. pace: called before the nth
        picture is sent; it may wait.
        """
        key = key or str(uuid.uuid4())

        def stream() -> Iterator[tuple[str, Any]]:
            for at, item in enumerate(pictures.items()):
                pace(at)
                yield item

        def send() -> EmbedJob:
            return client.embed(stream(), collection=collection, idempotency_key=key, on_finish=on_finish)

        client = self.client()
        client.chunk = chunk
        for _ in range(10):
            try:
                return send().id
            except (NoAnswer, BrokerUnavailable, DatabaseUnavailable):
                self.resubmissions += 1
        return send().id

    def failures(self, job: str, *, pictures: bool = False) -> Iterator[Failure]:
        """The failures of a job that embeds, as the client lists them."""
        found = self.client().job(job)
        assert isinstance(found, EmbedJob)
        return found.failures(pictures=pictures)

    def embedding(self, pictures: Mapping[str, Any], **more: Any) -> "Sending":
        """As `embed`, in a thread."""
        return Sending(lambda: self.embed(pictures, **more))


class Sending(threading.Thread):
    """A client that sends in a thread of its own."""

    def __init__(self, send: Callable[[], str]) -> None:
        super().__init__(name="client", daemon=True)
        self._send = send
        self.error: BaseException | None = None
        self.job = ""
        self.start()

    def run(self) -> None:
        try:
            self.job = self._send()
        except BaseException as error:
            self.error = error

    def result(self, within: float = 120) -> str:
        """The job's id, once all is accepted. Raises what the client raised."""
        self.join(within)
        assert not self.is_alive(), f"the client has not come back after {within:g} s"
        if self.error is not None:
            raise self.error
        return self.job
