"""The README's Python, run as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest

from cli.demo import strokes
from tests.stack.conftest import Stack

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_in_the_readme_runs(
    block: str, stack: Stack, tower: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    for name in re.findall(r"scans/[\w-]+\.png", block):
        (tmp_path / name).write_bytes(strokes.png(7))
    monkeypatch.chdir(tmp_path)
    exec(block.replace("redis://localhost:6379/0", stack.noted["broker_url"]), {})
