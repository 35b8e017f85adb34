"""Files that failed in the field, each with the digit that it shows or the refusal that is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.field.making import likeness, outcome
from tests.field.test_glyphs import taken
from training.pictures.read import read_picture

FOLDER = Path(__file__).parent / "data"
FILES: list[dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text())
DIGITS = {file["digit"] for file in FILES if file["file"].startswith("clean-")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file["file"]))
def test_a_file_shows_its_digit_or_is_refused(file: dict[str, Any]) -> None:
    path = FOLDER / file["file"]
    found = taken(np.load(path)) if path.suffix == ".npy" else outcome(path.read_bytes())
    if isinstance(found, str):
        assert "refused" in file["want"]
        return
    assert "digit" in file["want"]
    clean = {digit: read_picture((FOLDER / f"clean-{digit}.png").read_bytes()) for digit in DIGITS}
    alike = {digit: likeness(found, glyph) for digit, glyph in clean.items()}
    assert max(alike, key=alike.__getitem__) == file["digit"]
    assert alike[file["digit"]] > 0.65
