"""The files of a folder and of those in it, each folder once. It must not know what the files are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from training.errors import DataError


def files_under(path: Path, say: Callable[[str], None] = lambda line: None, *, inside: bool = False) -> Iterator[Path]:
    """Every file that is not hidden, in a stable order; a path that is no folder is its own only file.

    A link that leads to a folder which was read already, such as one above it, is left out, and `say` is told of it.
    inside: so is every link that leads out of the folder. Raises DataError on a folder that cannot be read.
    """
    leading_out: list[Path] = []
    yield from _walk(path, set(), say, _place(path) if inside else None, leading_out)
    if leading_out:
        links = "link that leads" if len(leading_out) == 1 else "links that lead"
        left_out = f"{len(leading_out):,} {links} out of {path} left out, such as {leading_out[0]}"
        say(f"{left_out}: name what is meant, or say --follow-links")


def _walk(
    path: Path, read: set[Path], say: Callable[[str], None], within: Path | None, leading_out: list[Path]
) -> Iterator[Path]:
    if within is not None and path.is_symlink() and not _place(path).is_relative_to(within):
        leading_out.append(path)
        return
    if not path.is_dir():
        yield path
        return
    place = _place(path)
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
            yield from _walk(each, read, say, within, leading_out)


def _place(path: Path) -> Path:
    """Where a path leads; of links that lead in a circle, anywhere. `Path.resolve` raises there."""
    return Path(os.path.realpath(path))
