"""Whatever a caller calls a picture travels, or is refused with a reason; nothing is raised."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from PIL import Image

from twinvec_client.contract.limits import MAX_PICTURE_BYTES
from twinvec_client.contract.messages import ENCODED, GLYPH, REFUSED
from twinvec_client.pictures import encode

PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)


def decoded(content: Any) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)))


def reason(picture: Any) -> str:
    kind, content = encode(picture)
    assert kind == REFUSED
    assert isinstance(content, tuple)
    return content[0]


@pytest.mark.parametrize(
    "array",
    [PIXELS, PIXELS.T.copy().T, PIXELS.astype(np.int64), PIXELS / 255, (PIXELS / 255).astype(np.float32)],
    ids=["uint8", "strided", "int64", "float64", "float32"],
)
def test_28x28_arrays_travel_byte_for_byte(array: np.ndarray[Any, Any]) -> None:
    assert encode(array) == (GLYPH, PIXELS.tobytes())


def test_booleans_are_black_and_white() -> None:
    assert encode(PIXELS > 127) == (GLYPH, np.where(PIXELS > 127, 255, 0).astype(np.uint8).tobytes())


@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 1), (5, 9, 3), (5, 9, 4)], ids=str)
def test_other_arrays_become_pngs_of_the_same_pixels(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    kind, content = encode(array)
    assert kind == ENCODED
    assert np.array_equal(decoded(content), array.squeeze())


@pytest.mark.parametrize("shape", [(), (28,), (0, 28), (28, 28, 2), (1, 28, 28, 1), (5, 0, 3)], ids=str)
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    assert reason(np.zeros(shape, np.uint8)) == "bad_array"


@pytest.mark.parametrize("value", [-1, 256, 1.5, -0.1, np.nan, np.inf, 1j, "x", None], ids=str)
def test_arrays_of_other_values_are_refused(value: Any) -> None:
    assert reason(np.full((28, 28), value)) == "bad_array"


@settings(max_examples=100, deadline=None)
@given(array=arrays.arrays(dtype=arrays.array_dtypes() | arrays.scalar_dtypes(), shape=arrays.array_shapes(min_side=0)))
def test_any_array_is_taken_or_refused(array: np.ndarray[Any, Any]) -> None:
    kind, content = encode(array)
    assert isinstance(content, tuple if kind == REFUSED else bytes)


def test_bytes_paths_and_images_travel_encoded(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    path = tmp_path / "digit.png"
    image.save(path)
    data = path.read_bytes()
    for picture in (data, bytearray(data), memoryview(data), path, str(path)):
        assert encode(picture) == (ENCODED, data)
    kind, content = encode(image)
    assert kind == ENCODED
    assert np.array_equal(decoded(content), PIXELS)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "none such", tmp_path, pipe, "", "nul\0", "\ud800", "\udcff", "x" * 10_000, "/dev/zero"):
        kind, content = encode(path)
        assert (kind, content[0]) == (REFUSED, "unreadable")
        assert isinstance(content[1], str)
        assert len(content[1].encode()) < 1000


def test_a_picture_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert reason(path) == "too_many_bytes"
    assert reason(bytes(MAX_PICTURE_BYTES + 1)) == "too_many_bytes"
    assert encode(bytes(MAX_PICTURE_BYTES))[0] == ENCODED


@pytest.mark.parametrize("picture", [None, 7, 1.5, [], {}, object()], ids=lambda picture: type(picture).__name__)
def test_what_is_no_picture_is_refused(picture: Any) -> None:
    assert reason(picture) == "bad_picture"


def test_an_image_of_more_than_8_bits_is_refused() -> None:
    assert reason(Image.new("F", (28, 28))) == "bad_picture"
