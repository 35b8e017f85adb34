"""Paths -> keys with their pictures."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from cli.errors import CommandError
from cli.inputs.sources import Reading, pictures
from twinvec_client.contract.limits import MAX_PICTURE_BYTES
from worker.settings import Settings

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 2, 1], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the format of MNIST's files."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


def test_a_folder_gives_every_file_once_in_a_stable_order_and_no_hidden_one(tmp_path: Path) -> None:
    for name in ("b.png", "a.txt", ".hidden", "deeper/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    keys = [key for key, _digit in pictures([tmp_path])]
    assert keys == [f"{tmp_path}/{name}" for name in ("a.txt", "b.png", "deeper/c.png")]


def test_keys_are_paths_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "x.png").touch()
    monkeypatch.chdir(tmp_path)
    assert [key for key, _digit in pictures([Path("7")])] == ["7/x.png"]


def test_a_folder_named_as_a_number_is_the_label(tmp_path: Path) -> None:
    for name in ("7/x.png", "other/y.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    labels = {Path(key).name: digit.label for key, digit in pictures([tmp_path], Reading(label_from_folder=True))}
    assert labels == {"x.png": 7, "y.png": None}


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("x_test", "y_test")])
def test_arrays_come_with_their_labels_in_order(tmp_path: Path, names: tuple[str, str]) -> None:
    file = tmp_path / "digits.npz"
    arrays: dict[str, Any] = dict(zip(names, (IMAGES, LABELS), strict=True))
    np.savez(file, **arrays)
    found = list(pictures([file]))
    assert [key for key, _digit in found] == [f"{file}#{index}" for index in range(3)]
    assert [digit.label for _key, digit in found] == [7, 2, 1]
    assert all((digit.picture == image).all() for (_key, digit), image in zip(found, IMAGES, strict=True))


def test_several_sets_in_one_file_do_not_share_keys(tmp_path: Path) -> None:
    file = tmp_path / "mnist.npz"
    np.savez(file, x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS)
    keys = [key for key, _digit in pictures([file])]
    assert len(set(keys)) == 6
    assert {f"{file}#train/0", f"{file}#test/2"} <= set(keys)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_find_their_labels(tmp_path: Path, packed: bool) -> None:
    for name, array in (("t10k-images-idx3-ubyte", IMAGES), ("t10k-labels-idx1-ubyte", LABELS)):
        content = gzip.compress(idx(array)) if packed else idx(array)
        (tmp_path / (f"{name}.gz" if packed else name)).write_bytes(content)
    assert [digit.label for _key, digit in pictures([tmp_path])] == [7, 2, 1]


def test_a_path_that_is_not_there_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "there.png").touch()
    with pytest.raises(CommandError, match="no such file"):
        pictures([tmp_path / "there.png", tmp_path / "missing.png"])


def test_an_archive_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", weights=np.zeros(3))
    with pytest.raises(CommandError, match="holds weights"):
        list(pictures([tmp_path / "odd.npz"]))


def test_an_archive_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", images=np.array([{}], dtype=object))
    with pytest.raises(CommandError, match="not an array file"):
        list(pictures([tmp_path / "bad.npz"]))


def test_labels_that_do_not_match_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", images=IMAGES, labels=LABELS[:2])
    with pytest.raises(CommandError, match="3 pictures and 2 labels"):
        list(pictures([tmp_path / "odd.npz"]))


PICTURES = {"7/a.png": b"\x89PNG seven", "8/b.png": b"\x89PNG eight", "c.png": b"\x89PNG none"}
LABELLED = {"7/a.png": 7, "8/b.png": 8, "c.png": None}


def made_zip(file: Path) -> None:
    """With a link out, what is hidden, and what a Mac adds."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("8")
        for name, content in PICTURES.items():
            archive.writestr(name, content)
        for name in ("__MACOSX/7/a.png", "7/.hidden.png", ".git/d.png"):
            archive.writestr(name, b"no picture")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")


def made_tar(file: Any, mode: str) -> None:
    """As `made_zip`, with a device, a hard link, and names that lead out."""
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]  # which mode it is
        for name, content in PICTURES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, kind in (("link.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE), ("tty", tarfile.CHRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        archive.addfile(tarfile.TarInfo("7/.hidden.png"), io.BytesIO(b""))


def read(*words: str | Path, reading: Reading | None = None, **given: Any) -> dict[str, tuple[Any, int | None]]:
    """Key to what is sent and its label."""
    return {key: (digit.picture, digit.label) for key, digit in pictures(words, reading, **given)}


@pytest.mark.parametrize(
    "name", ["scans.zip", "scans.tar", "scans.tar.gz", "scans.tgz", "SCANS.TAR.XZ", "scans.tar.bz2"]
)
def test_archives_are_read_without_links_devices_or_what_is_hidden(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if file.suffix == ".zip":
        made_zip(file)
    else:
        suffix = {".tar": "", ".gz": "gz", ".tgz": "gz", ".xz": "xz", ".bz2": "bz2"}[file.suffix.lower()]
        with file.open("wb") as raw:
            made_tar(raw, f"w:{suffix}")
    told: list[str] = []
    found = read(tmp_path, reading=Reading(label_from_folder=True, say=told.append))
    assert found == {f"{file}#{name}": (content, LABELLED[name]) for name, content in PICTURES.items()}
    assert told == [f"{file} holds {1 if file.suffix == '.zip' else 3} links or devices: they are left out"]


def test_an_archive_is_bounded_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_zip(tmp_path / "a.zip")
    with (tmp_path / "b.tar").open("wb") as raw:
        made_tar(raw, "w:")
    for limit, most in (("MOST_FILES", 2), ("MOST_BYTES", 20)):
        with monkeypatch.context() as patch:
            patch.setattr(f"cli.inputs.archives.{limit}", most)
            for name in ("a.zip", "b.tar"):
                with pytest.raises(CommandError, match="make several"):
                    read(tmp_path / name)


def test_a_file_that_is_too_large_for_a_picture_is_not_read_to_its_end(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(50 * 2**20))
        archive.writestr("b.png", b"next")
    found = read(tmp_path / "a.zip")
    assert [len(content) for content, _ in found.values()] == [MAX_PICTURE_BYTES + 1, 4]


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("././@PaxHeader")
    entry.type, entry.size = tarfile.XHDTYPE, 2**33
    (tmp_path / "a.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(2**21))
    with pytest.raises(CommandError, match="a header of 8,589,934,592 bytes"):
        read(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_broken_archive_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no archive at all" * 100)
    with pytest.raises(CommandError, match="not an archive that can be read"):
        read(tmp_path / name)


def test_a_pattern_stands_for_its_files_and_a_name_with_brackets_for_itself(tmp_path: Path) -> None:
    for name in ("1/x.png", "2/y.png", "2/z.txt", "odd[1].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(read(f"{tmp_path}/**/*.png")) == [f"{tmp_path}/{name}" for name in ("1/x.png", "2/y.png", "odd[1].png")]
    assert list(read(tmp_path / "odd[1].png")) == [f"{tmp_path}/odd[1].png"]
    with pytest.raises(CommandError, match="no such file"):
        pictures([f"{tmp_path}/*.gif"])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_paths_gives_pictures_labels_and_keys(tmp_path: Path, separator: str) -> None:
    rows = [["\ufeffId", "File", "Class", "Key"], ["1", "in/a.png", "7", "first"], ["2", "b.png", "", ""]]
    (tmp_path / "t.csv").write_text("\n".join(separator.join(row) for row in rows) + "\n")
    found = read(tmp_path / "t.csv")
    assert found == {"first": (tmp_path / "in/a.png", 7), f"{tmp_path}/b.png": (tmp_path / "b.png", None)}
    found = read(tmp_path / "t.csv", reading=Reading(label_column="ID"))
    assert [label for _, label in found.values()] == [1, 2]
    with pytest.raises(CommandError, match="no column 'nothing', but id, file"):
        read(tmp_path / "t.csv", reading=Reading(label_column="nothing"))


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "link.png"])
def test_a_table_names_nothing_outside_its_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").touch()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in" / "t.csv").write_text(f"path,label\n{path},3\n")
    with pytest.raises(CommandError, match="not in the folder of the table"):
        read(tmp_path / "in" / "t.csv")


def test_a_label_that_is_a_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.png,seven\n")
    with pytest.raises(CommandError, match="row 1: the label 'seven' is a word"):
        read(tmp_path / "t.csv")


def test_parquet_has_paths_or_the_pictures_themselves(tmp_path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415  # it takes half a second
    from pyarrow import parquet  # noqa: PLC0415

    published = {"image": [{"bytes": b"one", "path": "a.png"}, {"bytes": None, "path": "b.png"}], "label": [7, None]}
    parquet.write_table(pa.table(published), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == {
        f"{tmp_path}/a.parquet#0": (b"one", 7),
        f"{tmp_path}/b.png": (tmp_path / "b.png", None),
    }
    parquet.write_table(pa.table({"key": ["k"], "picture": [b"two"], "digit": [3]}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet", reading=Reading(label_column="digit")) == {"k": (b"two", 3)}
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CommandError, match="not a Parquet file"):
        read(tmp_path / "c.parquet")
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "d.parquet")
    with pytest.raises(CommandError, match="has the columns x: call that of the pictures `path`"):
        read(tmp_path / "d.parquet")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_standard_input_holds_paths(tmp_path: Path, end: bytes) -> None:
    for name in ("a b.png", "c.png"):
        (tmp_path / name).touch()
    lines = end.join(f"{tmp_path}/{name}".encode() for name in ("a b.png", "c.png"))
    for sent in (lines, lines + end):
        assert list(read("-", stdin=io.BytesIO(sent))) == [f"{tmp_path}/a b.png", f"{tmp_path}/c.png"]
    with pytest.raises(CommandError, match="no such file"):
        read("-", stdin=io.BytesIO(b"nothing.png" + end))
    with pytest.raises(CommandError, match="neither paths"):
        read("-", stdin=io.BytesIO(b"x" * 2**20))


@pytest.mark.parametrize("mode", ["w|", "w|gz"])
def test_standard_input_holds_a_tar_archive(mode: str) -> None:
    sent = io.BytesIO()
    made_tar(sent, mode)
    found = read("-", stdin=io.BytesIO(sent.getvalue()), reading=Reading(label_from_folder=True))
    assert found == {name: (content, LABELLED[name]) for name, content in PICTURES.items()}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_standard_input_holds_a_picture(format: str) -> None:
    sent = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(sent, format)
    assert read("-", stdin=io.BytesIO(sent.getvalue())) == {"stdin": (sent.getvalue(), None)}


@pytest.mark.parametrize("name", ["BM", "GIF8", "RIFF", "BZh", "MM", "II"])
def test_a_path_is_not_taken_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert list(read("-", stdin=io.BytesIO(f"{name}\0".encode()))) == [name]


def test_urls_are_read_where_the_settings_allow_how_they_begin(tmp_path: Path) -> None:
    """The same with every kind of storage that fsspec opens; this one is a folder."""
    for name, content in {**PICTURES, "7/.hidden": b"", "deeper/7/d.png": b"deep"}.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    url = f"file://{tmp_path}/in"
    found = read(url, reading=Reading(label_from_folder=True, urls=[f"{url}/"]))
    assert found == {
        **{f"{url}/{name}": (content, LABELLED[name]) for name, content in PICTURES.items()},
        f"{url}/deeper/7/d.png": (b"deep", 7),
    }
    assert list(read(f"{url}/c.png", reading=Reading(urls=[url]))) == [f"{url}/c.png"]
    with pytest.raises(CommandError, match=r"nothing is there|cannot be read"):
        read(f"{url}/none", reading=Reading(urls=[url]))


@pytest.mark.parametrize(
    "url",
    [
        "s3://scans/2026-private/a.png",
        "s3://scans/2026/../private/a.png",
        "s3://scans/2026/%2E%2e/private",
        "s3://other/2026/a.png",
        "simplecache::s3://scans/2026/a.png",
        "S3://scans/2026/a.png",
        "file:///etc/passwd",
    ],
)
def test_no_other_url_is_opened(url: str) -> None:
    with pytest.raises(CommandError, match="TWINVEC_INPUT_URLS allows"):
        pictures([url], Reading(urls=["s3://scans/2026"]))


def test_what_a_server_lists_of_elsewhere_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/a.png", "secret.png", "in-private/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [f"{tmp_path}/{name}" for name in ("in/a.png", "secret.png", "in-private/b.png", "in/../secret.png")]
    monkeypatch.setattr(LocalFileSystem, "find", lambda *_, **__: names)
    url = f"file://{tmp_path}/in"
    assert list(read(url, reading=Reading(urls=[url]))) == [f"{url}/a.png"]


def test_settings_allow_urls_by_commas() -> None:
    assert Settings(input_urls=" s3://scans/2026, https://data.example/ ,").allowed_urls() == [
        "s3://scans/2026",
        "https://data.example/",
    ]
    assert Settings().allowed_urls() == []
