"""Vectors -> a Parquet, `.npz` or `.npy` file, page by page in constant memory. It must not know their origin."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from cli.errors import CommandError
from cli.outputs.files import require_replaceable
from db.vectors.export import Extent, Page
from db.vectors.filters import NO_LABEL
from twinvec_client import Vectors
from twinvec_client.contract.limits import DIMENSIONS

SUFFIXES = (".parquet", ".npz", ".npy")

Write = Callable[[Page], None]


def check(file: Path) -> None:
    """Raises CommandError where no such file can be written."""
    if file.suffix.lower() not in SUFFIXES:
        raise CommandError(f"{file}: give a name that ends in {', '.join(SUFFIXES)}")
    if file.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise CommandError("Parquet is written by pyarrow: `pip install pyarrow`, or give .npz or .npy")
    if not file.absolute().parent.is_dir():
        raise CommandError(f"{file}: there is no such folder")
    for each in (file, *([_beside(file)] if file.suffix.lower() == ".npy" else [])):
        require_replaceable(each)


def _beside(file: Path) -> Path:
    """Where the keys are, of a file that holds vectors alone."""
    return file.with_suffix(".keys.npz")


@contextmanager
def writing(file: Path, tower: str, extent: Extent) -> Iterator[Write]:
    """While the block runs, what it is given is appended to the file, which stands under its name at the end alone.

    tower: the fingerprint of the tower that made them. Raises CommandError where it cannot be written.
    """
    kind = {".parquet": _parquet, ".npz": _npz, ".npy": _npy}[file.suffix.lower()]
    try:
        with tempfile.TemporaryDirectory(prefix=".twinvec-", dir=file.absolute().parent) as folder:
            with kind(Path(folder), tower, extent) as write:
                yield write
            if (beside := Path(folder) / "vectors.keys.npz").exists():
                beside.replace(_beside(file))
            (Path(folder) / f"vectors{file.suffix.lower()}").replace(file)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from error


@contextmanager
def _parquet(folder: Path, tower: str, extent: Extent) -> Iterator[Write]:
    """Columns as of `Vectors.to_arrow`, a row group a page."""
    from pyarrow import parquet  # noqa: PLC0415  # an extra: other formats do without

    def rows(page: Page) -> Any:
        labels = [None if label == NO_LABEL else label for label in page.labels.tolist()]
        return Vectors(tower, page.keys, page.collections, labels, page.vectors).to_arrow()

    words = ["key", "collection", "label"]
    with parquet.ParquetWriter(
        folder / "vectors.parquet",
        rows(Page([], [], np.empty(0, np.int32), np.empty((0, DIMENSIONS), np.float32))).schema,
        use_dictionary=["collection", "label"],
        # Numbers of a vector are as good as random: they do not shrink.
        compression={name: "zstd" for name in words} | {"vector.list.element": "none"},
        write_statistics=words,
    ) as writer:
        yield lambda page: writer.write_table(rows(page))


@contextmanager
def _npz(folder: Path, tower: str, extent: Extent) -> Iterator[Write]:
    """`vectors` (n, 128) float32, `keys`, `collections` and `labels` (n,), and `tower`."""
    with zipfile.ZipFile(folder / "vectors.npz", "w") as archive:
        with (
            _described(folder, extent) as describe,
            archive.open("vectors.npy", "w", force_zip64=True) as member,
        ):
            yield _appending(member, extent, describe)
        _add(archive, folder, tower)


@contextmanager
def _npy(folder: Path, tower: str, extent: Extent) -> Iterator[Write]:
    """`vectors`, which can be mapped into memory, and beside it, in `.keys.npz`, what else an `.npz` has."""
    with _described(folder, extent) as describe, (folder / "vectors.npy").open("wb") as file:
        yield _appending(file, extent, describe)
    with zipfile.ZipFile(folder / "vectors.keys.npz", "w") as archive:
        _add(archive, folder, tower)


def _appending(file: IO[bytes], extent: Extent, describe: Write) -> Write:
    """Appends pages to a `.npy` file of vectors, whose header it writes at once."""
    _header(file, (extent.vectors, DIMENSIONS), np.dtype("<f4"))

    def write(page: Page) -> None:
        file.write(_bytes(page.vectors, np.dtype("<f4")))
        describe(page)

    return write


@contextmanager
def _described(folder: Path, extent: Extent) -> Iterator[Write]:
    """Appends what is said of vectors to files `keys.npy`, `collections.npy` and `labels.npy` of the folder."""
    kinds = {
        "keys": np.dtype(f"<U{max(1, extent.key)}"),
        "collections": np.dtype(f"<U{max(1, extent.collection)}"),
        "labels": np.dtype("<i8"),
    }
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.npy").open("wb")) for name in kinds}
        for name, kind in kinds.items():
            _header(files[name], (extent.vectors,), kind)

        def describe(page: Page) -> None:
            for name, values in (("keys", page.keys), ("collections", page.collections), ("labels", page.labels)):
                files[name].write(_bytes(values, kinds[name]))

        yield describe


def _add(archive: zipfile.ZipFile, folder: Path, tower: str) -> None:
    """Move what `_described` has written into an archive, and name the tower there."""
    for name in ("keys", "collections", "labels"):
        archive.write(folder / f"{name}.npy", f"{name}.npy")
        (folder / f"{name}.npy").unlink()
    with archive.open("tower.npy", "w") as member:
        np.lib.format.write_array(member, np.array(tower), allow_pickle=False)


def _header(file: IO[bytes], shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
    told = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, told)


def _bytes(values: Any, kind: np.dtype[Any]) -> bytes:
    return np.ascontiguousarray(values, kind).tobytes()
