"""Rounds that take longer than their interval leave time to others."""

import pytest

from worker.throttle import Throttle


class Work:
    """Rounds of `seconds` each, and the clock on which they take that."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.rounds = seconds, 0.0, 0

    def __call__(self) -> None:
        self.now += self.seconds
        self.rounds += 1


def asked_each_second(work: Work, throttle: Throttle, *, times: int) -> None:
    for sent in range(1, times + 1):
        work.now = max(work.now, float(sent))
        throttle.run(work)


def test_rounds_that_take_longer_than_their_interval_leave_two_thirds_of_the_time_to_others() -> None:
    work = Work(seconds=4)
    asked_each_second(work, Throttle(lambda: work.now), times=24)
    assert work.rounds == 2
    assert work.now == 24  # so that no message waits


def test_a_quick_round_never_leaves_out_the_next_one() -> None:
    work = Work(seconds=0.1)
    asked_each_second(work, Throttle(lambda: work.now), times=10)
    assert work.rounds == 10


def test_a_round_that_fails_counts_as_well() -> None:
    work = Work(seconds=4)
    throttle = Throttle(lambda: work.now)

    def fail() -> None:
        work()
        raise OSError

    with pytest.raises(OSError):
        throttle.run(fail)
    throttle.run(fail)
    assert work.rounds == 1
