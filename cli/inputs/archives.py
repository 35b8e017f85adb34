"""Zip and tar archives -> the pictures in them, one at a time, never unpacked to disk. It must not decode a picture.

An archive may be anybody's: nothing is read before its size is known, links and devices are left out, and so is what is
hidden. Names are keys and never paths, so that none of them leads anywhere.
"""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMADecompressor, LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from training.errors import DataError
from twinvec_client.contract.limits import MAX_PICTURE_BYTES

MOST_FILES = 10_000_000
MOST_HEADER = 2**20  # bytes
MOST_MEMORY = 256 * 2**20  # bytes to unpack xz in; `xz -9` asks for 65 MiB
MOST_BYTES = 256 * 2**30  # of all its files, unpacked
_TARS = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
_EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    LZMAError,
    EOFError,
    OSError,
    NotImplementedError,  # a way to pack that this Python does not know
    RuntimeError,  # it is encrypted
)
_READ_AT_ONCE = MAX_PICTURE_BYTES + 1  # of what is larger, so much that it is refused

Say = Callable[[str], None]
File = tuple[PurePosixPath, bytes]


def is_archive(path: Path) -> bool:
    """By its name alone."""
    return path.name.lower().endswith((".zip", *_TARS))


def files_in(path: Path, say: Say) -> Iterator[File]:
    """(name, content) of every file in an archive, in its order; of one that is too large for a picture, the beginning.

    say: is given a sentence about what is left out. Raises DataError where it is broken, encrypted, or too large.
    """
    try:
        with path.open("rb") as file:
            yield from _of_zip(path, file, say) if path.name.lower().endswith(".zip") else tar_files(path, file, say)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _of_zip(path: Path, file: IO[bytes], say: Say) -> Iterator[File]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _bound(path, len(entries), sum(entry.file_size for entry in entries))
            left_out = _LeftOut(path, say)
            for entry in entries:
                kind = entry.external_attr >> 28  # of Unix: 8 a regular file, 0 not said, 10 a link
                if entry.is_dir() or left_out.hides(entry.filename, regular=kind in (0, 8)):
                    continue
                with archive.open(entry) as member:
                    yield PurePosixPath(entry.filename), member.read(_READ_AT_ONCE)
            left_out.tell()
    except _BROKEN as error:
        raise _broken(path, error) from error


def tar_files(path: Path, file: IO[bytes], say: Say) -> Iterator[File]:
    """As `files_in`, of a tar archive that is read once, from its beginning, such as standard input."""
    try:
        with tarfile.open(fileobj=_unpacked(file), mode="r|", tarinfo=_Entry) as archive:
            known: Any = archive
            count = size = 0
            left_out = _LeftOut(path, say)
            while (entry := archive.next()) is not None:
                known.members.clear()  # it keeps each, of which there may be millions
                count, size = count + 1, size + entry.size
                _bound(path, count, size)
                if entry.isdir() or left_out.hides(entry.name, regular=entry.isreg()):
                    continue
                member = archive.extractfile(entry)
                if member is not None:
                    yield PurePosixPath(entry.name), member.read(_READ_AT_ONCE)
            left_out.tell()
    except _BROKEN as error:
        raise _broken(path, error) from error


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """What a packed archive holds, a little at a time: `tarfile` unpacks all that a block of it gives, and copies what
    is left of that for every block that is read."""
    begins = file.peek(6) if isinstance(file, io.BufferedReader) else b""
    if begins.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if begins.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(file))
    if begins.startswith(b"\xfd7zXZ"):
        return io.BufferedReader(_Unxz(file))
    return file


class _Unxz(io.RawIOBase):
    """Unpacks xz in limited memory: its header says how much is to be kept, up to 4 GiB."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._lzma = file, LZMADecompressor(memlimit=MOST_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._lzma.eof:
            packed = self._file.read(2**16) if self._lzma.needs_input else b""
            if self._lzma.needs_input and not packed:
                raise EOFError("it is cut off")
            if some := self._lzma.decompress(packed, len(into)):
                into[: len(some)] = some
                return len(some)
        return 0


class _Entry(tarfile.TarInfo):
    """Refuses what else is read into memory whatever its size: long names, and what extends a header."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS and self.size > MOST_HEADER:
            raise DataError(f"a tar archive has a header of {self.size:,} bytes: fetch an intact copy.")
        entry: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]  # as `tarfile` documents its parts
        return entry


class _LeftOut:
    """What of an archive is not read."""

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say, self._odd = path, say, 0

    def hides(self, name: str, *, regular: bool) -> bool:
        if not regular:
            self._odd += 1
        parts = PurePosixPath(name).parts
        return not regular or "__MACOSX" in parts or any(part.startswith(".") and part != "." for part in parts)

    def tell(self) -> None:
        if self._odd:
            self._say(f"{self._path} holds {self._odd:,} links or devices: they are left out")


def _bound(path: Path, count: int, size: int) -> None:
    if count > MOST_FILES or size > MOST_BYTES:
        raise DataError(
            f"{path} holds {count:,} files of {size:,} bytes, more than the {MOST_FILES:,} and {MOST_BYTES:,} that "
            f"are read of one archive: make several of it."
        )


def _broken(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().rstrip(".") or type(error).__name__
    return DataError(f"{path} is not an archive that can be read: {reason}. Fetch an intact copy, without a password.")
