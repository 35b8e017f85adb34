"""Arrays are read by one rule, whatever their dtype: taken as they are, normalised, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.field.making import enlarged, likeness, outcome, written
from training.arrays import AnyArray, Uint8
from training.errors import PictureError
from training.pictures.glyphs import are_set_like_mnist, normalised
from training.pictures.normalise import is_set_like_mnist
from training.pictures.read import read_picture
from twinvec_client.contract.messages import GLYPH, REFUSED
from twinvec_client.pictures import encode


def taken(array: AnyArray) -> Uint8 | str:
    """The glyph that a worker makes of an array, or the reason why it is refused."""
    kind, content = encode(array)
    if isinstance(content, tuple):
        assert kind == REFUSED
        return content[0]
    if kind != GLYPH:
        return outcome(content)
    (glyph,) = normalised(np.frombuffer(content, np.uint8).reshape(1, -1))
    return glyph.reason if isinstance(glyph, PictureError) else np.frombuffer(glyph, np.uint8).reshape(28, 28)


DTYPES: dict[str, Callable[[Uint8], AnyArray]] = {
    "uint8": lambda digit: digit,
    "int64": lambda digit: digit.astype(np.int64),
    "uint16": lambda digit: digit.astype(np.uint16),
    "float32": lambda digit: (digit / 255).astype(np.float32),
    "float64": lambda digit: digit / 255,
    "(28, 28, 1)": lambda digit: digit[..., None],
    "(28, 28, 3)": lambda digit: np.repeat(digit[..., None], 3, axis=2),
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_mnist_digits_of_every_dtype_are_taken_as_they_are(digits: Uint8, dtype: str) -> None:
    for digit in digits:
        assert np.array_equal(taken(DTYPES[dtype](digit)), digit)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("paper", [255, 200])
def test_dark_on_light_is_turned_for_every_dtype(digits: Uint8, dtype: str, paper: int) -> None:
    for digit in digits:
        dark = np.rint(paper * (1 - digit / 255)).astype(np.uint8)
        glyph = taken(DTYPES[dtype](dark))
        assert not isinstance(glyph, str)
        assert likeness(glyph, digit) > 0.9


LEVELS: dict[str, Callable[[Uint8], AnyArray]] = {
    "bool": lambda digit: digit > 127,
    "uint8 of 0 and 1": lambda digit: (digit > 127).astype(np.uint8),
    "int64 of 0 and 1": lambda digit: (digit > 127).astype(np.int64),
    "bool, dark on light": lambda digit: digit <= 127,
    "0 and 1, dark on light": lambda digit: (digit <= 127).astype(np.uint8),
    "float, faint": lambda digit: digit / 255 * 0.3,
    "0 to 100": lambda digit: np.rint(digit / 255 * 100).astype(np.uint8),
    "float on grey": lambda digit: 0.4 + 0.5 * digit / 255,
}


@pytest.mark.parametrize("levels", LEVELS)
def test_other_levels_are_read_or_refused_and_never_taken_for_full_ones(digits: Uint8, levels: str) -> None:
    read = 0
    for digit in digits:
        glyph = taken(LEVELS[levels](digit))
        if not isinstance(glyph, str):
            assert likeness(glyph, digit) > 0.7
            assert glyph.max() >= 128
            read += 1
    assert read >= 0.8 * len(digits)


@pytest.mark.parametrize("most", [2, 4, 9, 15, 16])
def test_small_integers_are_read_or_refused_with_a_word_about_their_levels(digits: Uint8, most: int) -> None:
    for digit in digits:
        few = np.rint(digit / 255 * most).astype(np.uint8)
        glyph = taken(few)
        if isinstance(glyph, str):
            assert glyph == "blank"
        else:
            assert likeness(glyph, digit) > 0.7
    (refusal,) = normalised(np.rint(digits[:1] / 255 * 4).astype(np.uint8).reshape(1, -1))
    assert isinstance(refusal, PictureError)
    assert "0 to 4" in str(refusal)


@pytest.mark.parametrize("value", [0, 1, 7, 255, 0.0, 0.5, 1.0, False, True], ids=repr)
def test_an_array_without_ink_is_refused(value: Any) -> None:
    assert taken(np.full((28, 28), value, np.uint8 if type(value) is int else None)) == "blank"


def test_a_digit_anywhere_in_an_array_is_set_in_its_middle(digits: Uint8) -> None:
    for digit in digits:
        tight = digit[np.ix_(digit.any(axis=1), digit.any(axis=0))]
        for moved in (np.roll(digit, (3, -3), (0, 1)), enlarged(tight, 28) if tight.shape[1] > 12 else digit):
            glyph = taken(moved)
            assert not isinstance(glyph, str)
            assert np.array_equal(glyph, read_picture(written(moved)))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), side=st.integers(16, 24), shift=st.tuples(*[st.integers(-2, 2)] * 2))
def test_many_are_judged_as_one_is(seed: int, side: int, shift: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    pixels = np.zeros((9, 28, 28), np.uint8)
    margin = (28 - side) // 2
    ink = random.random((9, side, side)) < random.random()
    pixels[:, margin : margin + side, margin : margin + side] = ink * random.integers(1, 256, (9, 1, 1))
    pixels = np.roll(pixels, shift, (1, 2))
    pixels[0] = 0
    assert are_set_like_mnist(pixels.reshape(9, -1)).tolist() == [is_set_like_mnist(each) for each in pixels]


def test_a_glyph_that_is_set_costs_little_and_an_empty_chunk_nothing() -> None:
    assert list(normalised(np.zeros((0, 784), np.uint8))) == []
