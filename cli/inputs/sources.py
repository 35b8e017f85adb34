"""Words on the command line -> keys with their pictures, read one file at a time. It must not decode a picture."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePath
from typing import IO, Any

from cli.errors import CommandError
from cli.inputs.archives import files_in, is_archive, tar_files
from cli.inputs.remote import files_at, is_url, require_allowed
from cli.inputs.tables import is_table, pictures_of
from training.data.arrays import is_array_file, read_sets
from training.data.folders import files_under
from training.errors import DataError
from twinvec_client import Digit
from twinvec_client.contract.limits import MAX_PICTURE_BYTES

Item = tuple[str, Digit]
Say = Callable[[str], None]

STDIN = "-"
_LONGEST_PATH = 4096  # bytes
# How standard input begins that is no list of paths, whatever these are called: (bytes, where they stand) each.
_TARS = ((b"ustar", 257), (b"\x1f\x8b", 0), (b"1AY&SY", 4), (b"\xfd7zXZ\0", 0))  # plain, or packed
_PICTURES = (
    (b"\x89PNG\r\n", 0),
    (b"\xff\xd8\xff", 0),
    (b"GIF87a", 0),
    (b"GIF89a", 0),
    (b"\0\0\0\0", 6),  # BMP
    (b"II*\0", 0),
    (b"MM\0*", 0),
    (b"WEBPVP8", 8),
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read.

    transposed: whether rows and columns of arrays are exchanged; None, and what looks as if they should be is said.
    follow_links: read what links in a folder lead to outside of it.
    label_column: of tables, where it is not called as labels are. urls: how those begin that may be read. say: is given
    a sentence about what is not read, and about what looks transposed.
    """

    label_from_folder: bool = False
    label_column: str | None = None
    transposed: bool | None = None
    follow_links: bool = False
    urls: Sequence[str] = ()
    say: Say = lambda line: None  # a default that does nothing


def pictures(
    words: Sequence[str | Path], reading: Reading | None = None, *, stdin: IO[bytes] | None = None
) -> Iterator[Item]:
    """Every picture of these: (key, picture with its label if it has one), in a stable order.

    A word is a path, a pattern such as `scans/**/*.png`, a URL, or `-` for standard input: paths, one a line, or ended
    by NUL as of `find -print0`; a tar archive; or one picture. A file that is not a picture is passed on all the same:
    it becomes a failure of the job, with its reason; so does a file of several pictures that cannot be read, at the
    place where that was found. Hidden files are left out, and links that lead out of a folder. Raises CommandError at
    once for what does not exist or is not allowed, and on the way where one such file is all there is.
    """
    reading = reading or Reading()
    sources: list[Path | str] = []
    for word in map(str, words):
        if is_url(word):
            require_allowed(word, reading.urls)
        sources += [word] if is_url(word) or word == STDIN else _paths(word, reading)
    return _walk(sources, reading, stdin)


def _paths(word: str, reading: Reading) -> list[Path]:
    """The path, or those that a pattern stands for. Raises CommandError where there is none."""
    try:
        if Path(word).exists():
            return [Path(word)]
        found = _matching(Path(word), reading) if glob.has_magic(word) else []
    except OSError as error:
        raise CommandError(f"{word}: {error.strerror}") from error
    except ValueError as error:  # NUL
        raise CommandError(f"{word!r:.200}: {error}") from error
    if not found:
        raise CommandError(f"{word}: no such file or folder")
    return found


def _matching(pattern: Path, reading: Reading) -> list[Path]:
    """What a pattern stands for, in the folder before its first wildcard: nothing hidden, and as of a folder nothing
    that links lead to outside of it. `**` follows no links, which may lead in circles."""
    at = next(at for at, part in enumerate(pattern.parts) if glob.has_magic(part))
    folder, wanted = Path(*pattern.parts[:at]), pattern.parts[at:]
    if wanted[-1] == "**":  # a folder is read with all that is in it
        wanted = wanted[:-1]
    found = sorted(folder.glob(str(PurePath(*wanted)))) if wanted else [folder]
    shown = [each for each in found if not any(part.startswith(".") for part in each.parts[at:])]
    place = os.path.realpath(folder)
    inside = [each for each in shown if reading.follow_links or Path(os.path.realpath(each)).is_relative_to(place)]
    if left_out := len(shown) - len(inside):
        reading.say(f"{left_out:,} of {pattern} left out, which lead out of {folder}: say --follow-links to read them")
    return inside


def _walk(sources: Sequence[Path | str], reading: Reading, stdin: IO[bytes] | None) -> Iterator[Item]:
    try:
        for source in sources:
            if isinstance(source, Path):
                yield from _path(source, reading, alone=len(sources) == 1)
            elif source == STDIN:
                yield from _stdin(stdin or sys.stdin.buffer, reading)
            else:
                for name, url, content in files_at(source):
                    yield url, Digit(content, label=_label(name, reading))
    except DataError as error:
        raise CommandError(str(error)) from error


def _path(path: Path, reading: Reading, *, alone: bool = False) -> Iterator[Item]:
    """alone: whether nothing else is read; else a file of several pictures that cannot be read is a failure itself."""
    for file in files_under(path, reading.say, inside=not reading.follow_links):
        try:
            yield from _file(file, reading)
        except Exception as error:  # readers of other people's formats raise anything on a file that is broken
            if alone and path == file:
                if isinstance(error, CommandError | DataError):
                    raise
                raise CommandError(f"{file} cannot be read: {error or type(error).__name__}") from error
            yield file.as_posix(), Digit(error)


def _file(file: Path, reading: Reading) -> Iterator[Item]:
    several = is_archive(file) or is_array_file(file) or file.suffix.lower() == ".parquet"
    if several and file.exists() and not file.is_file():
        raise DataError(f"{file} is not a regular file.")
    if is_archive(file):
        for name, content in files_in(file, reading.say):
            yield f"{file.as_posix()}#{name}", Digit(content, label=_label(name, reading))
    elif is_table(file):
        yield from pictures_of(file, reading.label_column)
    elif is_array_file(file):
        yield from _arrays(file, reading)
    else:
        yield file.as_posix(), Digit(file, label=_label(file.absolute(), reading))


def _stdin(stream: IO[bytes], reading: Reading) -> Iterator[Item]:
    """By how it begins. Raises CommandError."""
    file: BufferedReader[Any] = stream if isinstance(stream, BufferedReader) else BufferedReader(stream)
    begins = file.peek(512)
    if _is(begins, _TARS):
        for name, content in tar_files(Path("standard input"), file, reading.say):
            yield name.as_posix(), Digit(content, label=_label(name, reading))
    elif _is(begins, _PICTURES):
        yield "stdin", Digit(file.read(MAX_PICTURE_BYTES + 1))
    else:
        for word in _lines(file):
            for path in _paths(word, reading):
                yield from _path(path, reading)


def _is(begins: bytes, marks: Sequence[tuple[bytes, int]]) -> bool:
    return any(begins.startswith(mark, at) for mark, at in marks)


def _lines(file: BufferedReader[Any]) -> Iterator[str]:
    """Paths, each ended by a line's end or by NUL. Raises CommandError where one has no end."""
    end, rest = b"\0" if b"\0" in file.peek(_LONGEST_PATH) else b"\n", b""
    while part := file.read1(2**16):
        *whole, rest = (rest + part).split(end)
        if len(rest) > _LONGEST_PATH:
            raise CommandError("standard input holds neither paths, one a line, nor a tar archive, nor a picture")
        yield from (os.fsdecode(line.removesuffix(b"\r")) for line in whole if line.strip())
    if rest.strip():
        yield os.fsdecode(rest)


def _label(file: PurePath, reading: Reading) -> int | None:
    name = file.parent.name if reading.label_from_folder else ""
    return int(name[:20]) if name.isascii() and name.isdecimal() else None  # a longer one is no label either


def _arrays(file: Path, reading: Reading) -> Iterator[Item]:
    def tell(line: str) -> None:
        turned = "transposed" in line
        if not turned or reading.transposed is None:
            reading.say(f"{line}: give --transposed, or --upright where they are right" if turned else line)

    sets = read_sets(file, transposed=bool(reading.transposed), say=tell)
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
