"""The README's Python, run as it stands, from the folder it is meant to be run in."""

import re
from pathlib import Path
from typing import Any

import pytest

from cli.demo import strokes
from tests.stack.conftest import Stack

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_in_the_readme_runs(
    block: str, stack: Stack, tower: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name in re.findall(r"scans/[\w-]+\.png", block):
        (tmp_path / name).write_bytes(strokes.png(7))
    monkeypatch.chdir(tmp_path)
    # the one change: the test's stack has a port of its own
    exec(re.sub(r'Twinvec\((?:"redis://localhost:6379/0")?\)', f'Twinvec("{stack.noted["broker_url"]}")', block), {})


@pytest.mark.parametrize("picture", re.findall(r"\]\((docs/[\w/.-]+\.png)\)|\"(docs/[\w/.-]+\.png)\"", README))
def test_every_picture_that_the_readme_names_is_there(picture: tuple[str, str]) -> None:
    assert (ROOT / "".join(picture)).is_file()
