"""Data sets that Keras's downloader fetches by name. Importing this loads Keras, which takes seconds.

It must not know what the data are used for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.arrays import Uint8
from training.backend import keras
from training.data.dataset import Dataset
from training.data.idx import read_idx
from training.errors import DataError

KUZUSHIJI = "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"

KUZUSHIJI_FILES = {  # name -> MD5
    "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
    "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
    "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
    "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
}

KerasData = tuple[tuple[Uint8, Uint8], tuple[Uint8, Uint8]]


def fetch(name: str) -> Dataset:
    """`mnist`, `fashion-mnist` or `kuzushiji-mnist`, kept in Keras's own folder. Raises DataError."""
    try:
        return FETCHERS[name]()
    except DataError:
        raise
    except Exception as error:  # Keras raises a bare Exception when an address does not answer
        raise DataError(f"Keras could not download {name}: {error}. Give a path to a copy of it instead.") from error


def fetch_mnist() -> Dataset:
    """Handwritten digits: 60,000 and 10,000, ten classes."""
    return from_keras(keras.datasets.mnist.load_data(), "mnist")


def fetch_fashion() -> Dataset:
    """Zalando's articles of clothing: 60,000 and 10,000, ten classes."""
    return from_keras(keras.datasets.fashion_mnist.load_data(), "fashion-mnist")


def from_keras(loaded: KerasData, name: str) -> Dataset:
    (train_images, train_labels), (test_images, test_labels) = loaded
    return Dataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        source=f"{name}, by Keras's downloader",
    )


def fetch_kuzushiji() -> Dataset:
    """Cursive Japanese characters: 60,000 and 10,000, ten classes. Keras does not list it: its files are named here."""
    paths = [
        keras.utils.get_file(name, KUZUSHIJI + name, file_hash=md5, cache_subdir="datasets/kuzushiji-mnist")
        for name, md5 in KUZUSHIJI_FILES.items()
    ]
    return read_idx(Path(paths[0]).parent)


FETCHERS: dict[str, Callable[[], Dataset]] = {
    "mnist": fetch_mnist,
    "fashion-mnist": fetch_fashion,
    "kuzushiji-mnist": fetch_kuzushiji,
}
