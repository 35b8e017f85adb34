"""The examples, and the Python of the client's README, run as they stand."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.demo import strokes
from tests.stack.conftest import Stack

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "client" / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_in_the_clients_readme_runs(
    block: str, stack: Stack, tower: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    for name in re.findall(r"scans/[\w-]+\.png", block):
        (tmp_path / name).write_bytes(strokes.png(7))
    monkeypatch.chdir(tmp_path)
    exec(block.replace("redis://localhost:6379/0", stack.noted["broker_url"]), {})


def test_a_folder_is_embedded_by_the_example(stack: Stack, tower: dict[str, Any], tmp_path: Path) -> None:
    for digit in (3, 7):
        (tmp_path / f"{digit}.png").write_bytes(strokes.png(digit))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    command = [sys.executable, ROOT / "examples" / "embed_folder.py", tmp_path, "--broker", stack.noted["broker_url"]]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "finished_with_failures: 2 embedded, 0 unchanged, 1 failed" in ran.stdout
    assert f"{tmp_path / 'bad.png'}: not_a_picture" in ran.stdout
    assert str(tmp_path / "7.png") in ran.stdout.rpartition("nearest to")[2]
