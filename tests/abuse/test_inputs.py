"""Files and folders of anybody's, given to `twinvec embed`: nothing behind links, nothing without a bound, and a file
that cannot be read is one failure beside the others."""

import gzip
import io
import os
import re
import stat
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.errors import CommandError
from cli.inputs.sources import Reading, pictures
from twinvec_client.contract.limits import MAX_PICTURE_BYTES
from twinvec_client.contract.messages import REFUSED
from twinvec_client.pictures import encode

GLYPHS = np.full((3, 28, 28), 7, np.uint8)


def read(folder: Path, said: list[str] | None = None) -> dict[str, Any]:
    """Key, from the folder on, -> reason where it is a failure, else nothing."""
    found = {}
    for key, digit in islice(pictures([folder], Reading(say=(said or []).append)), 100):
        kind, content = encode(digit.picture)
        found[key.removeprefix(f"{folder}/")] = str(content) if kind == REFUSED else None
    return found


def test_links_out_of_a_folder_and_back_into_it_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root:x:0:0")
    folder = tmp_path / "given"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a.png").write_bytes(b"a")
    (folder / "b.png").symlink_to(folder / "in" / "a.png")
    (folder / "passwd").symlink_to(tmp_path / "secret")
    (folder / "etc").symlink_to("/etc")
    (folder / "in" / "up").symlink_to("..")
    (folder / "in" / "loop").symlink_to("loop")
    (folder / "one").symlink_to(".")
    (folder / "two").symlink_to(".")
    said: list[str] = ["said:"]
    found = read(folder, said)
    assert "unreadable" in found.pop("in/loop")
    assert found.keys() == {"b.png", "in/a.png"}
    assert (
        f"2 links that lead out of {folder} left out, such as {folder}/etc: name what is meant, or say --follow-links"
        in said
    )
    assert sum("read already" in line for line in said) == 3


def test_a_link_that_is_named_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(b"a")
    (tmp_path / "here").symlink_to("there")
    assert [key for key, _ in pictures([tmp_path / "here"])] == [f"{tmp_path}/here/a.png"]


def bomb_npz(file: Path) -> None:
    """An array of 8 GB in some kilobytes: its entry says so, and the header of the array."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (10_000_000, 28, 28)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(10**6))
    content = bytearray(file.read_bytes())
    for mark, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", content, content.index(mark) + at, 2**32 - 2)
    file.write_bytes(content)


def parquet(file: Path, value: bytes, rows: int) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer  # noqa: PLC0415  # an extra

    column = arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), arrow.array([value]))
    writer.write_table(arrow.table({"image": column}), file)


def idx(file: Path, *axes: int, rest: bytes = b"") -> None:
    file.write_bytes(gzip.compress(bytes([0, 0, 8, len(axes)]) + np.array(axes, ">u4").tobytes() + rest))


def fifo(file: Path) -> None:
    os.mkfifo(file)


BROKEN: dict[str, Callable[[Path], object]] = {
    "bomb.npz": bomb_npz,
    "cut.npz": lambda file: file.write_bytes(b"PK\x03\x04" + bytes(100)),
    "empty.npz": lambda file: file.touch(),
    "pickled.npz": lambda file: np.savez(file, images=np.array([{}], object)),
    "no-pictures.npz": lambda file: np.savez(file, images=np.zeros((2**40, 0, 28))),
    "words.npz": lambda file: np.savez(file, images=GLYPHS, labels=np.array([1.0, np.nan, 2])),
    "pipe.npz": fifo,
    "pipe.zip": fifo,
    "pipe.csv": fifo,
    "pipe.parquet": fifo,
    "pipe-idx3-ubyte": fifo,
    "overflow-images-idx4-ubyte.gz": lambda file: idx(file, 2**31, 2**32 - 1, 2**31, 2**31, rest=bytes(10**7)),
    "nothing-images-idx3-ubyte.gz": lambda file: idx(file, 2**32 - 1, 28, 0),
    "line.csv.gz": lambda file: file.write_bytes(gzip.compress(b"9," * 5_000_000)),
    "wide.csv": lambda file: file.write_text(",".join(["0"] * 784) + "\n" + ",".join(["0"] * 9999)),
    "corrupt.csv.gz": lambda file: file.write_bytes(gzip.compress(os.urandom(99))[:40] + bytes(60)),
    "nul.csv": lambda file: file.write_bytes(b"path\na\0b.png\n"),
    "digits.csv": lambda file: file.write_bytes(b"path,label\na.png," + b"9" * 5000),
    "garbage.parquet": lambda file: file.write_bytes(b"PAR1" + bytes(64) + b"PAR1"),
    "garbage.zip": lambda file: file.write_bytes(b"PK\x05\x06" + bytes(18)[:-1]),
    "garbage.tar.gz": lambda file: file.write_bytes(b"\x1f\x8b" + zlib.compress(b"x")),
}

if os.geteuid() == 0:  # who else may not make one
    BROKEN["device.tar"] = lambda file: os.mknod(file, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fails where Python and NumPy took more than 256 MB at once."""
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 256 * 2**20, f"{most / 2**20:,.0f} MB"


@pytest.mark.usefixtures("little_memory")
def test_a_file_that_cannot_be_read_is_one_failure_and_the_rest_is_sent(tmp_path: Path) -> None:
    for name, make in BROKEN.items():
        make(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"a picture")
    np.save(tmp_path / "z.npy", GLYPHS)
    found = read(tmp_path)
    good = {"a.png", "z.npy#0", "z.npy#1", "z.npy#2"}
    assert {key for key, reason in found.items() if reason is None} == good
    assert found.keys() - good == BROKEN.keys()
    assert all("unreadable" in str(found[key]) for key in found.keys() - good)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", BROKEN)
def test_such_a_file_alone_says_what_is_wrong(tmp_path: Path, name: str) -> None:
    BROKEN[name](tmp_path / name)
    with pytest.raises(CommandError, match=re.escape(name)):
        list(islice(pictures([tmp_path / name]), 10))


def test_links_in_circles_are_not_followed_by_a_pattern_either(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"x")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"x")
    for name, to in {"one": ".", "two": ".", "etc": "/etc"}.items():
        (tmp_path / "a" / name).symlink_to(to)
    said: list[str] = []
    for pattern in ("**/*.png", "*/x*", "a/**"):
        keys = [key for key, _ in islice(pictures([f"{tmp_path}/{pattern}"], Reading(say=said.append)), 100)]
        assert {key.removeprefix(f"{tmp_path}/") for key in keys} == {"a/x.png"}, pattern
    with pytest.raises(CommandError, match="no such file"):
        pictures([f"{tmp_path}/*/*/hostname"], Reading(say=said.append))
    assert said[-1].startswith("1 of ")


def test_a_packed_archive_is_unpacked_in_little_time_and_memory(tmp_path: Path) -> None:
    large, small = tarfile.TarInfo("large.png"), tarfile.TarInfo("small.png")
    large.size, small.size = 300 * 2**20, 5
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.addfile(large, io.BytesIO(bytes(large.size)))
        archive.addfile(small, io.BytesIO(b"small"))
    start = time.process_time()
    found = [len(digit.picture) for _, digit in pictures([tmp_path / "a.tar.gz"])]
    assert found == [MAX_PICTURE_BYTES + 1, 5]
    assert time.process_time() - start < 15  # a second on an idle machine

    with tarfile.open(tmp_path / "b.tar.xz", "w:xz") as archive:
        archive.addfile(small, io.BytesIO(b"small"))
    packed = bytearray((tmp_path / "b.tar.xz").read_bytes())
    end = 12 + 4 * (packed[12] + 1)  # of the header of its first block
    packed[16] = 40  # a dictionary of 4 GiB
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[12 : end - 4]))
    (tmp_path / "c.tar.xz").write_bytes(packed)
    assert [digit.picture for _, digit in pictures([tmp_path / "b.tar.xz"])] == [b"small"]
    with pytest.raises(CommandError, match="Memory usage limit"):
        list(pictures([tmp_path / "c.tar.xz"]))


def test_one_value_of_a_dictionary_in_many_rows_is_not_unpacked_for_all_of_them(tmp_path: Path) -> None:
    parquet(tmp_path / "many.parquet", bytes(9 * 2**20), rows=100_000)
    tracemalloc.start()
    first = [len(digit.picture) for _, digit in islice(pictures([tmp_path]), 3)]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first == [9 * 2**20] * 3
    assert most < 64 * 2**20
