"""Faults inside the members' own code: where they exit, how long the stand-in tower takes, and what is noted of both.

The other end is `injected/sitecustomize.py`, which every member loads; the two meet in files of one folder.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

INJECTED = Path(__file__).with_name("injected")


@dataclass(frozen=True)
class Note:
    """A line that an injection left."""

    at: float  # seconds since 1970
    pid: int
    rest: str

    @classmethod
    def read(cls, line: str) -> Self:
        at, pid, *rest = line.split(" ", 2)
        return cls(float(at), int(pid), rest[0] if rest else "")


class Injection:
    """What is injected into the members of one fleet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        for name in ("armed", "noted"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)

    def environment(self) -> dict[str, str]:
        """What a process needs to be injected into."""
        return {"PYTHONPATH": str(INJECTED), "CHAOS_FOLDER": str(self._folder)}

    def check(self) -> None:
        """Raises where an injection has found no name to inject at."""
        refused = self._folder / "refused"
        if refused.exists():
            raise AssertionError(f"the injection does not fit the code: {refused.read_text()}")

    def arm(self, point: str, times: int) -> None:
        """Have processes exit at `point`, so many times in all.

        Points: after-decode and after-intake (a chunk is stored, its message not acknowledged); after-claim,
        after-tower, inside-finish (written, not committed), after-commit (not acknowledged); training-claimed,
        -under-way, -fitted, -registered (written, not committed) and -committed (not acknowledged).
        """
        _replace(self._folder / "armed" / point, str(times))

    def noted(self, what: str) -> list[Note]:
        """What injections noted: exits at a point by its name, `claims`, `epochs-kept`, `segfault-tower`,
        `segfault-decoder`."""
        with suppress(FileNotFoundError):
            return [Note.read(line) for line in (self._folder / "noted" / what).read_text().splitlines()]
        return []

    def slow_down(self, seconds: float) -> None:
        """Have the stand-in tower take so long for each call."""
        _replace(self._folder / "tower-seconds", str(seconds))


def _replace(file: Path, content: str) -> None:
    """Write a file that others read at any moment: they find what stood there before, or all that stands there now."""
    unfinished = file.with_name(f".{file.name}")
    unfinished.write_text(content)
    unfinished.rename(file)
