"""Files of arrays as people have them: read with their labels, or refused in a sentence; the same by both readers."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cli.errors import CommandError
from cli.inputs.sources import Reading, pictures
from training.data import files
from training.data.dataset import Dataset
from training.data.mnist import read_npz
from training.errors import DataError

FIELD = Path(__file__).parents[1] / "data" / "field"
Array = NDArray[Any]


@pytest.fixture(scope="module")
def sample() -> Dataset:
    """Digits of MNIST, a few of each class."""
    return read_npz(FIELD.parent / "mnist-sample.npz")


@pytest.fixture
def images(sample: Dataset) -> Array:
    return sample.train_images[:60]


@pytest.fixture
def labels(sample: Dataset) -> Array:
    return sample.train_labels[:60]


def embedded(*paths: Path, **options: Any) -> tuple[Array, list[int | None], list[str]]:
    """What `twinvec embed` would send: pictures, labels, and what it says."""
    said: list[str] = []
    found = list(pictures(paths, Reading(say=said.append, **options)))
    return np.stack([digit.picture for _, digit in found]), [digit.label for _, digit in found], said


def learnt(path: Path, **options: Any) -> set[tuple[bytes, int]]:
    """What a training would take: pixels with their labels."""
    data = files.read(path, **options)
    parts = ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
    return {(image.tobytes(), int(label)) for of, known in parts for image, label in zip(of, known, strict=True)}


def pairs(images: Array, labels: Array) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


LABELS: dict[str, Callable[[Array], Array]] = {
    "column": lambda labels: labels[:, None],
    "int64": lambda labels: labels.astype(np.int64),
    "big-endian": lambda labels: labels.astype(">i4"),
    "whole floats": lambda labels: labels.astype(np.float32),
    "one-hot floats": lambda labels: np.eye(10)[labels],
    "one-hot bools": lambda labels: np.eye(10, dtype=bool)[labels],
    "one-hot integers": lambda labels: np.eye(10, dtype=np.int32)[labels],
    "numbers as words": lambda labels: labels.astype(str),
    "numbers as bytes": lambda labels: np.char.encode(labels.astype(str)),
    "padded words": lambda labels: np.char.add(labels.astype(str), " "),
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_in_any_form_are_the_same_for_both_readers(
    images: Array, labels: Array, form: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", images=images, labels=LABELS[form](labels))
    _, found, said = embedded(tmp_path / "d.npz")
    assert (found, said) == (labels.tolist(), [])
    assert learnt(tmp_path / "d.npz") == pairs(images, labels)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda labels: labels + 0.5, "whole numbers"),
        (lambda labels: np.where(labels == 1, np.nan, labels), "finite numbers"),
        (lambda labels: np.eye(10)[labels] * 0.9, "not one-hot"),
        (lambda labels: np.zeros((60, 10)), "not one-hot"),
        (lambda labels: labels[:-1], "60 pictures and 59 labels"),
        (lambda labels: np.tile(labels[:, None, None], (1, 2, 2)), "one label a picture"),
        (lambda labels: labels.astype(complex), "numbers or words"),
    ],
)
def test_labels_that_are_none_are_refused_by_both(
    images: Array, labels: Array, broken: Callable[[Array], Array], why: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", images=images, labels=broken(labels))
    with pytest.raises(CommandError, match=why):
        embedded(tmp_path / "d.npz")
    with pytest.raises(DataError, match=why):
        learnt(tmp_path / "d.npz")


NAMES = [
    ("X", "y"),
    ("Images", "Labels"),
    ("data", "target"),
    ("X_train", "Y_train"),
    ("trainX", "trainy"),
    ("train_data", "train_targets"),
    ("pixels", "class"),
    ("train-images", "train-labels"),
]


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_usual_names_of_arrays_are_known(images: Array, labels: Array, names: tuple[str, str], tmp_path: Path) -> None:
    arrays: dict[str, Any] = dict(zip(names, (images, labels), strict=True))
    np.savez(tmp_path / "d.npz", **arrays)
    assert embedded(tmp_path / "d.npz")[1:] == (labels.tolist(), [])
    assert learnt(tmp_path / "d.npz") == pairs(images, labels)


def test_sets_of_medical_benchmarks_are_each_labelled(images: Array, labels: Array, tmp_path: Path) -> None:
    held: dict[str, Any] = {f"{split}_images": images for split in ("train", "val", "test")}
    held |= {f"{split}_labels": labels[:, None] for split in ("train", "val", "test")}
    np.savez(tmp_path / "d.npz", **held)
    keys = [key.rpartition("#")[2] for key, _ in pictures([tmp_path / "d.npz"])]
    assert {key.partition("/")[0] for key in keys} == {"train", "val", "test"}
    assert len(set(keys)) == 180
    assert embedded(tmp_path / "d.npz")[1] == labels.tolist() * 3


def test_labels_under_a_name_that_is_not_known_are_not_left_out_in_silence(images: Array, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=images, ground_truth=np.arange(60))
    _, found, said = embedded(tmp_path / "d.npz")
    assert found == [None] * 60
    assert len(said) == 1
    assert "no labels were found for images" in said[0]
    assert "ground_truth" in said[0]
    with pytest.raises(DataError, match="no labels"):
        learnt(tmp_path / "d.npz")


SHAPES: dict[str, Callable[[Array], Array]] = {
    "rows": lambda images: images.reshape(-1, 784),
    "a channel": lambda images: images[..., None],
    "channels first": lambda images: images[:, None],
    "rows of floats": lambda images: images.reshape(-1, 784) / 255,
}


@pytest.mark.parametrize("form", SHAPES)
def test_pictures_in_any_shape_are_the_same_for_both_readers(
    images: Array, labels: Array, form: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", images=SHAPES[form](images), labels=labels)
    found, _, _ = embedded(tmp_path / "d.npz")
    whole = found.reshape(60, 28, 28)
    np.testing.assert_array_equal(np.round(whole * (255 if whole.dtype.kind == "f" else 1)).astype(np.uint8), images)
    assert learnt(tmp_path / "d.npz") == pairs(images, labels)


def test_arrays_in_files_of_their_own_find_their_labels(images: Array, labels: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "X_train.npy", images)
    np.save(tmp_path / "y_train.npy", labels)
    assert embedded(tmp_path)[1] == labels.tolist()
    np.save(tmp_path / "seven.npy", images[0])
    assert [key.rpartition("/")[2] for key, _ in pictures([tmp_path / "seven.npy"])] == ["seven.npy"]
    assert learnt(tmp_path / "X_train.npy") == pairs(images, labels)


def write_csv(path: Path, images: Array, labels: Array | None, *, heading: str, last: bool, mark: str = ",") -> None:
    rows = [list(map(str, image.reshape(-1))) for image in images]
    if labels is not None:
        rows = [[*row, str(label)] if last else [str(label), *row] for row, label in zip(rows, labels, strict=True)]
    text = heading + "".join(mark.join(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


PIXELS = ",".join(f"pixel{at}" for at in range(784))


@pytest.mark.parametrize(
    ("name", "heading", "last"),
    [
        ("kaggle.csv", f"label,{PIXELS}\n", False),
        ("bare.csv", "", False),
        ("openml.csv", f"{PIXELS},class\n", True),
        ("excel.csv", f"\ufefflabel,{PIXELS}\r\n", False),
        ("packed.csv.gz", f'"label",{PIXELS}\n', False),
    ],
)
def test_a_csv_of_pixels_is_read(
    images: Array, labels: Array, name: str, heading: str, last: bool, tmp_path: Path
) -> None:
    write_csv(tmp_path / name, images, labels, heading=heading, last=last)
    found, known, said = embedded(tmp_path / name)
    np.testing.assert_array_equal(found, images)
    assert (known, said) == (labels.tolist(), [])
    assert learnt(tmp_path / name) == pairs(images, labels)


def test_a_csv_without_labels_and_one_with_other_marks_are_read(images: Array, labels: Array, tmp_path: Path) -> None:
    write_csv(tmp_path / "test.csv", images, None, heading=f"{PIXELS}\n", last=False)
    assert embedded(tmp_path / "test.csv")[1] == [None] * 60
    write_csv(tmp_path / "d.tsv", images, labels, heading="", last=False, mark="\t")
    assert embedded(tmp_path / "d.tsv")[1] == labels.tolist()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "784 pixels are needed"),
        (b"name,label\na.png,7\n", "784 pixels are needed"),
        (b"\xff\xfe\x00garbage\n", "not text"),
        (f"label,{PIXELS}\n7,1,2\n".encode(), "is not one picture"),
        (f"label,{PIXELS}\n7{',x' * 784}\n".encode(), "is not one picture"),
    ],
    ids=["empty", "a list of files", "no text", "a short row", "words"],
)
def test_another_csv_is_refused_with_what_is_needed(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(CommandError, match=why):
        list(pictures([tmp_path / "d.csv"]))


def idx(array: Array, code: int = 8) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def test_idx_of_any_size_is_read_in_bounded_memory(tmp_path: Path) -> None:
    count = 100_000  # 78 MB
    with gzip.open(tmp_path / "big-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
        file.write(idx(np.zeros((0, 28, 28), np.uint8))[:4] + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28)))
        for _ in range(count // 1000):
            file.write(bytes(784 * 1000))
    (tmp_path / "big-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint32).astype(">i4"), 0x0C))
    tracemalloc.start()
    try:
        seen = sum(1 for at, (_, digit) in enumerate(pictures([tmp_path])) if digit.label == at)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == count
    assert most < 40e6


@pytest.mark.parametrize("cut", [0, 3, 9, 500])
def test_a_broken_idx_file_is_refused(images: Array, cut: int, tmp_path: Path) -> None:
    for name, content in (
        ("a-images-idx3-ubyte", idx(images)[:cut]),
        ("b-images-idx3-ubyte.gz", gzip.compress(idx(images))[:cut]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CommandError, match=name):
            list(pictures([tmp_path / name]))


def test_an_idx_file_that_goes_on_behind_its_end_is_refused(images: Array, tmp_path: Path) -> None:
    (tmp_path / "a-images-idx3-ubyte").write_bytes(idx(images) + b"more")
    with pytest.raises(CommandError, match="more values than its header says"):
        list(pictures([tmp_path / "a-images-idx3-ubyte"]))


def write_emnist(folder: Path, data: Dataset, *, name: str = "emnist-digits") -> None:
    """As EMNIST's own files lie: rows and columns exchanged."""
    for split, images, labels in (
        ("train", data.train_images[:600], data.train_labels[:600]),
        ("test", data.test_images[:200], data.test_labels[:200]),
    ):
        turned = np.ascontiguousarray(images.swapaxes(1, 2))
        (folder / f"{name}-{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(turned)))
        (folder / f"{name}-{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


@pytest.mark.parametrize("name", ["emnist-digits", "ours"])
def test_transposed_digits_are_told_and_turned_where_that_is_asked_for(
    sample: Dataset, name: str, tmp_path: Path
) -> None:
    write_emnist(tmp_path, sample, name=name)
    file = tmp_path / f"{name}-train-images-idx3-ubyte.gz"
    found, known, said = embedded(file)
    assert len(said) == 1
    assert "look transposed" in said[0]
    assert "--transposed" in said[0]
    upright, again, said = embedded(file, transposed=True)
    assert (said, again) == ([], known)
    np.testing.assert_array_equal(upright, sample.train_images[: len(upright)])
    np.testing.assert_array_equal(found, upright.swapaxes(1, 2))
    assert embedded(file, transposed=False)[2] == []
    for place in (tmp_path, file):
        with pytest.raises(DataError, match="TWINVEC_DATA_TRANSPOSED=1"):
            files.load(place)
        data = files.load(place, transposed=True)
        np.testing.assert_array_equal(data.train_images, sample.train_images[: len(data.train_images)])
        assert files.load(place, transposed=False).digest != data.digest


def test_upright_digits_do_not_look_transposed(sample: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "emnist-balanced.npz", x=sample.train_images, y=sample.train_labels)
    assert embedded(tmp_path / "emnist-balanced.npz")[2] == []
    files.load(tmp_path / "emnist-balanced.npz")


def test_a_file_of_one_of_several_sets_names_the_set(sample: Dataset, tmp_path: Path) -> None:
    for name in ("emnist-digits", "emnist-letters"):
        write_emnist(tmp_path, sample, name=name)
    with pytest.raises(DataError, match="emnist-digits, emnist-letters"):
        files.load(tmp_path, transposed=True)
    data = files.load(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz", transposed=True)
    assert len(data.train_images) == min(600, len(sample.train_images))


def archive(images: Array, labels: Array, folder: Path) -> bytes:
    np.savez_compressed(folder / "good.npz", images=images, labels=labels)
    return (folder / "good.npz").read_bytes()


def test_archives_broken_anywhere_are_one_sentence(images: Array, labels: Array, tmp_path: Path) -> None:
    good = archive(images, labels, tmp_path)
    rng = np.random.default_rng(1)
    refused = 0
    for each in range(60):
        content = bytearray(good[: rng.integers(0, len(good))] if each % 2 else good)
        for at in rng.integers(0, max(1, len(content)), 30):
            content[at : at + 1] = bytes(rng.integers(0, 256, 1, np.uint8))
        (tmp_path / "d.npz").write_bytes(content)
        for read, error in ((embedded, CommandError), (learnt, DataError)):
            try:
                read(tmp_path / "d.npz")
            except error as told:
                refused += 1
                assert "\n" not in str(told)
    assert refused > 100


@pytest.mark.parametrize("name", ["d.npz", "d.npy", "d.csv", "d-images-idx3-ubyte", "d-images-idx3-ubyte.gz"])
def test_empty_files_and_folders_in_their_place_are_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CommandError, match=name):
        list(pictures([tmp_path / name]))


def test_python_objects_are_not_unpacked(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CommandError, match="Python objects"):
        list(pictures([tmp_path / "d.npy"]))


def test_links_that_lead_back_are_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "7" / "deeper").mkdir(parents=True)
    (tmp_path / "7" / "x.png").touch()
    for link, target in (("self", "7"), ("deeper/up", "7"), ("deeper/top", ".")):
        (tmp_path / "7" / link).symlink_to(tmp_path / target, target_is_directory=True)
    (tmp_path / "7" / "circle").symlink_to(tmp_path / "7" / "circle")
    said: list[str] = []
    keys = [Path(key).name for key, _ in pictures([tmp_path], Reading(say=said.append))]
    assert sorted(keys) == ["circle", "x.png"]
    assert len(said) == 3
    assert all("read already" in line for line in said)


def test_a_linked_folder_elsewhere_is_read_by_both_readers(sample: Dataset, tmp_path: Path) -> None:
    from PIL import Image  # noqa: PLC0415  # for this one alone

    for label in (3, 4):
        folder = tmp_path / "elsewhere" / str(label)
        folder.mkdir(parents=True)
        for at, image in enumerate(sample.train_images[sample.train_labels == label][:6]):
            Image.fromarray(image).save(folder / f"{at}.png")
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        (tmp_path / "data" / str(label) / "more").symlink_to(folder)
        (tmp_path / "data" / str(label) / "back").symlink_to(tmp_path / "data" / str(label))
    assert len(list(pictures([tmp_path / "data"], Reading(follow_links=True)))) == 12
    assert not list(pictures([tmp_path / "data"]))  # a stranger's folder may lead anywhere
    data = files.load(tmp_path / "data")
    assert len(data.train_images) + len(data.test_images) == 12


KNOWN = [2, 3, 4, 5]


@pytest.mark.parametrize("name", ["X-and-y", "flat-784", "labels-one-column", "labels-one-hot"])
def test_files_that_were_sent_in_are_read_with_their_labels(name: str) -> None:
    _, found, said = embedded(FIELD / f"{name}.npz")
    assert (found[:4], said) == (KNOWN, [])
    assert {label for _, label in learnt(FIELD / f"{name}.npz")} == set(KNOWN)


def test_a_csv_and_transposed_digits_that_were_sent_in_are_read() -> None:
    assert embedded(FIELD / "kaggle.csv")[1] == KNOWN
    file = FIELD / "emnist-digits-train-images-idx3-ubyte.gz"
    assert "look transposed" in embedded(file)[2][0]
    upright, found, _ = embedded(file, transposed=True)
    np.testing.assert_array_equal(upright[:4].reshape(4, 784), embedded(FIELD / "flat-784.npz")[0][:4].reshape(4, 784))
    assert found[:4] == KNOWN


@pytest.mark.parametrize("name", ["cut", "empty", "labels-words"])
def test_files_that_were_sent_in_broken_are_told(name: str) -> None:
    with pytest.raises(CommandError, match=name):
        embedded(FIELD / f"{name}.npz")
