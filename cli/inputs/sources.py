"""Paths on the command line -> keys with their pictures, read one file at a time. It must not decode a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cli.errors import CommandError
from training.data.arrays import is_array_file, read_sets
from training.data.folders import files_under
from training.errors import DataError
from twinvec_client import Digit

Item = tuple[str, Digit]
Say = Callable[[str], None]


def pictures(
    paths: Sequence[Path],
    *,
    label_from_folder: bool = False,
    transposed: bool | None = None,
    say: Say = lambda line: None,
) -> Iterator[Item]:
    """Every picture under the paths: (key, picture with its label if it has one), in a stable order.

    A file that is not a picture is passed on all the same: it becomes a failure of the job, with its reason. Hidden
    files are left out. transposed: whether rows and columns of arrays are exchanged; None, and what looks as if they
    should be is said. say: is given a sentence about that, and about what is not read. Raises CommandError at once for
    a path that does not exist, and on the way for an array file that cannot be read.
    """
    for path in paths:
        try:
            there = path.exists()
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        if not there:
            raise CommandError(f"{path}: no such file or folder")
    return _walk(paths, label_from_folder, transposed, say)


def _walk(paths: Sequence[Path], label_from_folder: bool, transposed: bool | None, say: Say) -> Iterator[Item]:
    try:
        for path in paths:
            for file in files_under(path, say):
                if is_array_file(file):
                    yield from _arrays(file, transposed, say)
                else:
                    yield file.as_posix(), Digit(file, label=_folder_label(file) if label_from_folder else None)
    except DataError as error:
        raise CommandError(str(error)) from error


def _folder_label(file: Path) -> int | None:
    name = file.absolute().parent.name
    return int(name) if name.isascii() and name.isdecimal() else None


def _arrays(file: Path, transposed: bool | None, say: Say) -> Iterator[Item]:
    def tell(line: str) -> None:
        turned = "transposed" in line
        if not turned or transposed is None:
            say(f"{line}: give --transposed, or --upright where they are right" if turned else line)

    sets = read_sets(file, transposed=bool(transposed), say=tell)
    for each in sets:
        start, at = f"{file.as_posix()}#{each.name}/" if len(sets) > 1 else f"{file.as_posix()}#", 0
        for images, labels in each.blocks():
            if labels is not None and labels.dtype.kind not in "iu":
                raise CommandError(
                    f"{file}: the labels are words, such as {str(labels[0])!r:.40}; digits are stored with integers: "
                    f"number the classes"
                )
            for index, image in enumerate(images):
                key = file.as_posix() if each.single else f"{start}{at + index}"
                yield key, Digit(image, label=None if labels is None else int(labels[index]))
            at += len(images)
