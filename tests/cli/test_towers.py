"""A tower as the command shows it: where it comes from, when it was live, and the verdict on it."""

from typing import Any

import pytest

from cli.commands import towers
from cli.display.console import out
from twinvec_client import Tower

VERDICT = {
    "passed": False,
    "live": 1,
    "forced_by": "an operator",
    "reasons": [
        {"name": "complete", "live": None, "candidate": 7.0, "tolerance": None, "passed": True, "said": "nothing due"},
        {
            "name": "map_at_r",
            "live": 0.98,
            "candidate": 0.9,
            "tolerance": 0.01,
            "passed": False,
            "said": "[b]less",
        },
    ],
}


def shown(**fields: Any) -> str:
    known: dict[str, Any] = {
        "id": 2, "fingerprint": "ab" * 32, "status": "rejected", "recipe": "default", "seed": 7, "metrics": {},
        "threshold": 0.5, "created_at": "2026-01-31T12:34:56", "embedded": 0, "due": 0, "lineage": None,
        "verdict": None, "live_from": None, "live_until": None,
    }  # fmt: skip
    with out.capture() as written:
        towers._describe(Tower(**known | fields))
    return written.get()


def test_a_verdict_is_told_reason_by_reason() -> None:
    text = shown(verdict=VERDICT)
    assert "not passed against tower 1; asked for all the same by an operator" in text
    assert "✓" in text
    assert "✗" in text
    assert all(word in text for word in ("map at r", "0.98", "0.9", "0.01", "[b]less"))


def test_a_lineage_is_told_as_far_as_it_is_known() -> None:
    lineage = {"mnist_digits": 60_000, "stored_labels": 12, "judged_pairs": 0, "code": "0.1.0", "started_by": "[b]me"}
    text = shown(lineage=lineage | {"libraries": {"keras": "3.15.1"}})
    assert all(
        word in text for word in ("60,000 of the data set, 12 stored digits with labels", "keras 3.15.1", "[b]me")
    )
    assert "judged pairs" not in text


@pytest.mark.parametrize(
    ("status", "until", "said"),
    [("live", None, "2026-01-01 10:00 to now"), ("previous", "2026-01-02T11:00:00", "10:00 to 2026-01-02 11:00")],
)
def test_when_it_was_live_is_told(status: str, until: str | None, said: str) -> None:
    assert said in shown(status=status, live_from="2026-01-01T10:00:00", live_until=until)
