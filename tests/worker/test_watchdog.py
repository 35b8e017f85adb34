"""A worker whose consumer has stalled is found out, and any other is left alone."""

from collections.abc import Sequence
from typing import Any

import pytest

from worker.watchdog import LOOKS, StallDetector


def looks(waiting: Sequence[int], busy: Sequence[bool], done: Sequence[int]) -> list[bool]:
    """What each look finds."""
    at = iter(range(len(waiting)))
    now = 0
    detector = StallDetector(lambda: waiting[now], lambda: busy[now], lambda: done[now])
    found = []
    for now in at:  # noqa: B007  # the functions above read it
        found.append(detector.is_stalled())
    return found


def test_messages_that_wait_for_an_idle_worker_give_it_away() -> None:
    count = LOOKS + 1  # the first look only sees where it stands
    assert looks([5] * count, [False] * count, [9] * count) == [False] * LOOKS + [True]


@pytest.mark.parametrize(
    "saving",
    [
        {"waiting": [0]},
        {"busy": [True]},
        {"done": [10]},
    ],
    ids=["nothing waits", "it is at work", "it did something"],
)
def test_one_sign_of_life_starts_the_count_again(saving: dict[str, list[int]]) -> None:
    lost: dict[str, list[int]] = {"waiting": [5] * LOOKS, "busy": [False] * LOOKS, "done": [9] * LOOKS}
    story: dict[str, Any] = {name: [*lost[name], *saving.get(name, lost[name][:1]), *lost[name][1:]] for name in lost}
    assert not any(looks(**story)[: 2 * LOOKS])
