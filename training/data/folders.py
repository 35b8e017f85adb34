"""The files of a folder and of those in it, each folder once. It must not know what the files are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from training.errors import DataError


def files_under(path: Path, say: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
    """Every file that is not hidden, in a stable order; a path that is no folder is its own only file.

    A link that leads to a folder which was read already, such as one above it, is left out, and `say` is told of it.
    Raises DataError on a folder that cannot be read.
    """
    return _walk(path, set(), say)


def _walk(path: Path, read: set[Path], say: Callable[[str], None]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    place = path.resolve()
    if place in read:
        say(f"{path} leads to a folder that was read already: it is left out")
        return
    read.add(place)
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    for each in inside:
        if not each.name.startswith("."):
            yield from _walk(each, read, say)
