"""Failed pictures come page by page, whatever a page has room for."""

from typing import Any

from twinvec_client.contract.messages import FailuresOf, Message
from twinvec_client.testing import FakeTwinvec, Memory


class Cutting(Memory):
    """Has room for three pictures a page."""

    def ask(self, message: Message, **options: Any) -> dict[str, Any]:
        reply = super().ask(message, **options)
        if isinstance(message, FailuresOf) and message.pictures:
            reply["failures"] = reply["failures"][:3]
        return reply


def test_a_page_that_is_cut_short_is_not_the_last() -> None:
    sent = {f"{at:05}": b"no picture %d" % at for at in range(10)}
    job = FakeTwinvec(memory=Cutting()).embed(sent)
    assert {each.key: each.picture for each in job.failures(pictures=True)} == sent
    assert [each.key for each in job.failures()] == list(sent)
