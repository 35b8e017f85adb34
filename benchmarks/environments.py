"""An environment of its own for a program: a virtual environment that has some distributions and what they need.

They are linked to those of the environment that runs this, so that nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def environment(folder: Path, *requirements: str) -> Path:
    """Make one in `folder`; its interpreter. requirements: such as `celery[redis]`."""
    venv.create(folder, symlinks=True, with_pip=False)
    interpreter = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([interpreter, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    for name in sorted(closure(requirements)):
        for source in _top_level(importlib.metadata.distribution(name)):
            target = site / source.name
            if not target.exists():
                target.symlink_to(source)
    return interpreter


def closure(requirements: tuple[str, ...]) -> set[str]:
    """The distributions that are needed for these, themselves among them, by their canonical names."""
    waiting, seen = [Requirement(each) for each in requirements], set[tuple[str, str]]()
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            name = canonicalize_name(wanted.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in importlib.metadata.requires(name) or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return {name for name, _ in seen}


def _top_level(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    """What a distribution has put into the folder of packages."""
    names = {file.parts[0] for file in distribution.files or () if ".." not in file.parts}
    yield from (Path(str(distribution.locate_file(name))) for name in sorted(names - {"__pycache__"}))


if __name__ == "__main__":
    print(environment(Path(sys.argv[1]), *sys.argv[2:]))
