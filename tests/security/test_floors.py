"""Releases with known holes are neither asked for nor pinned."""

import re
import tomllib
from pathlib import Path

import pytest

from db.preflight import PGVECTOR, POSTGRES
from worker.preflight import BROKERS
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
FLOORS = {"pillow": (13, 0, 0), "keras": (3, 15, 1)}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_the_pages_ask_for_the_floors_of_the_servers() -> None:
    floor = f"PostgreSQL {POSTGRES}+ with pgvector {PGVECTOR}+"
    assert floor in (Settings.model_fields["database_url"].description or "")
    assert floor in (ROOT / "docs" / "settings.md").read_text()
    asked = "Redis {redis}+ or Valkey {valkey}+".format(**BROKERS)
    assert asked in (Settings.model_fields["broker_url"].description or "")
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f"older than PostgreSQL {POSTGRES} " in page
    assert set(re.findall(r"before (0\.\d+\.\d+)", page, re.IGNORECASE)) == {PGVECTOR}


@pytest.mark.parametrize("package", FLOORS)
def test_every_list_of_requirements_keeps_above_the_floor(package: str) -> None:
    for file in ROOT.glob("requirements/*.txt"):
        for pinned in re.findall(rf"^{package}==([\d.]+)", file.read_text(), re.MULTILINE):
            assert version(pinned) >= FLOORS[package], file.name
    assert re.search(rf"^{package}==", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "package"),
    [("pyproject.toml", "pillow"), ("pyproject.toml", "keras"), ("client/pyproject.toml", "pillow")],
)
def test_both_distributions_ask_for_the_floor(file: str, package: str) -> None:
    asked = tomllib.loads((ROOT / file).read_text())["project"]["dependencies"]
    (floor,) = [line.partition(">=")[2] for line in asked if line.startswith(f"{package}>=")]
    assert version(floor) >= FLOORS[package]
