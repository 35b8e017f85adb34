"""`twinvec doctor` against a running stack."""

import json
from typing import Any

from tests.stack.conftest import Stack


def test_doctor_finds_a_running_stack_well(stack: Stack, tower: dict[str, Any]) -> None:
    done = stack.command("doctor", "--json", check=False)
    found = {finding["part"]: finding for finding in json.loads(done.stdout)}
    assert {finding["level"] for finding in found.values()} == {"ok"}, found
    assert done.returncode == 0
    assert f"tower {tower['id']} " in found["tower"]["found"]
    assert "no problem" in stack.command("doctor").stderr
