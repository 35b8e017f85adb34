"""Events of a moment are sent together, and none is left behind."""

from kombu.asynchronous import Hub

from tests.makers import eventually
from worker.consumer import Consumer


def test_events_are_gathered_and_sent_once_each_moment() -> None:
    consumer = Consumer.__new__(Consumer)
    sent: list[int] = []
    consumer.hub = Hub()
    consumer._flush_events = lambda: sent.append(len(sent))

    def are_sent() -> bool:
        before = len(sent)
        consumer.hub.run_once()
        return len(sent) > before

    for times in (1, 2):
        for _ in range(50):
            consumer.on_send_event_buffered()
        eventually(are_sent, "events are sent")
        assert len(sent) == times
