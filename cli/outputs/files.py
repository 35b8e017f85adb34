"""Files that a command writes where it is told to: whole or not at all, and never through a link.

It must not know what is in them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.errors import CommandError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file's path, to be written in the block; at its end it takes the place of what is at `path`.

    Raises CommandError where that cannot be written, or is not a file that may be replaced.
    """
    require_replaceable(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".twinvec-", dir=path.absolute().parent) as folder:
            unfinished = Path(folder) / path.name
            yield unfinished
            unfinished.replace(path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error


def require_replaceable(path: Path) -> None:
    """Raises CommandError where something stands at a path that is not a plain file: a link, a folder, a device.

    A link is not followed: who may make one there says else what is written over.
    """
    if path.is_symlink():
        raise CommandError(f"cannot write {path}: it is a link; name the file that it leads to")
    if path.exists() and not path.is_file():
        raise CommandError(f"cannot write {path}: it is not a file")


class Creating:
    """Makes files in a folder under names of anybody's, each new: a name that is taken gets a number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[str, int] = {}  # name -> the last that was tried: of many alike, none is tried twice

    def create(self, name: str, suffix: str, content: bytes) -> Path:
        """Write a new file, `name`, `name (2)` and so on. Nothing that is there is replaced. Raises CommandError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while True:
                number = self._numbers[name + suffix] = self._numbers.get(name + suffix, 0) + 1
                path = self._folder / (f"{name}{suffix}" if number == 1 else f"{name} ({number}){suffix}")
                try:
                    with path.open("xb") as created:  # refuses links as well, also those that lead nowhere
                        created.write(content)
                    return path
                except FileExistsError:
                    continue
        except OSError as error:
            raise CommandError(f"cannot write to {self._folder}: {error.strerror or error}") from error
