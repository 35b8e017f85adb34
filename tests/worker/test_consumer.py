"""Events of a moment are sent together, and none is left behind."""

from kombu.asynchronous import Hub

from tests.makers import eventually
from worker.consumer import Consumer


def test_events_are_gathered_and_sent_once_each_moment() -> None:
    consumer, sent = Consumer.__new__(Consumer), []
    consumer.hub = Hub()
    consumer._flush_events = lambda: sent.append(len(sent))

    def turn() -> bool:
        consumer.hub.run_once()
        return bool(sent)

    for round_ in (1, 2):
        for _ in range(50):
            consumer.on_send_event_buffered()
        eventually(lambda at=round_: turn() and len(sent) >= at, "events are sent")
        assert len(sent) == round_
