"""What an operator is told in the middle of a case: `twinvec doctor` is asked, and judged by what the ledger says."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.chaos.fleet import Fleet
from tests.chaos.member import ROOT
from tests.chaos.result import Result

OPERATOR = "operator"
WITHIN = 60.0  # seconds for an answer
ITS_MACHINE = ("python", "packages", "home", "backend", "device")  # what it says of the machine that it runs on


@dataclass(frozen=True)
class Asked:
    """What `twinvec doctor` answered: its problems; and whether batches were claimed or finished while it looked."""

    problems: list[str]
    work_went_on: bool

    def judge(self, result: Result, when: str) -> None:
        """Note a problem where it said of work that stood still that there is none."""
        result.require(self.problems or self.work_went_on, f"{when}: doctor said no problem while work stood still")


def ask_doctor(fleet: Fleet) -> Asked:
    """Ask as the operator does, on a host whose own network is whole."""
    command = [*fleet.before(OPERATOR), sys.executable, "-P", "-m", "cli", "doctor", "--json"]
    # The backend is not what is asked about, and the real one takes longer to load than some faults last.
    environment = fleet.environment(OPERATOR) | {"KERAS_BACKEND": "none"}
    before = _progress(fleet)
    answer = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WITHIN, check=False
    )
    assert answer.stdout.startswith("["), f"doctor answered {answer.stdout!r} {answer.stderr[-500:]!r}"
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    problems = [
        f"{each['part']}: {each['found']}"
        for each in found
        if each["level"] == "problem" and each["part"] not in ITS_MACHINE
    ]
    return Asked(problems, work_went_on=_progress(fleet) != before)


def _progress(fleet: Fleet) -> tuple[int, int]:
    return fleet.ledger.done(), len(fleet.injection.noted("claims"))
