"""Writes the table in docs/settings.md from the settings: `python -m worker.settings_table`. Nothing imports it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
BEGIN, END = "<!-- settings -->", "<!-- settings: end -->"


def table() -> str:
    """A row a setting, in the order of `Settings`: its variable, what holds where it is not set, and what it says."""
    return "\n".join(["| variable | default | what it says |", "| --- | --- | --- |", *_rows()])


def written(page: str) -> str:
    """The page with the table between its marks. Raises ValueError where there are none."""
    before, after = page[: page.index(BEGIN)], page[page.index(END) :]
    return f"{before}{BEGIN}\n\n{table()}\n\n{after}"


def _rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        says, _, unset = (field.description or "").partition(". Unset: ")
        default = unset if field.default is None else f"`{_plain(field.default)}`"
        yield f"| `TWINVEC_{name.upper()}` | {default} | {says} |"


def _plain(value: Any) -> str:
    """As it would be written in the environment."""
    if isinstance(value, bool | float):
        return f"{value:g}"
    return str(value)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
