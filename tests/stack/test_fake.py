"""The fake answers as a real installation does."""

from typing import Any

from tests.scenario import scenario
from tests.stack.conftest import Stack
from twinvec_client.testing import FakeTwinvec


def test_the_fake_and_a_real_installation_tell_the_same_story(stack: Stack, tower: dict[str, Any]) -> None:
    assert scenario(FakeTwinvec(), "story") == scenario(stack.client(), "story")
