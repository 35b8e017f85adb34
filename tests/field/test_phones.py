"""What phones write is read where the decoder is there, and named where it is not."""

from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.field.making import ink_of
from training.arrays import Uint8
from training.errors import PictureError
from training.pictures import read
from training.pictures.read import read_picture

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
AVIF = b"\0\0\0\x18ftypavif\0\0\0\0mif1avif"


def page(digit: Uint8) -> Uint8:
    levels: Uint8 = np.rint(255 * (1 - ink_of(digit))).astype(np.uint8)
    return levels


def written(levels: Uint8, form: str, **options: object) -> bytes:
    pillow_heif.register_heif_opener()
    file = BytesIO()
    Image.fromarray(levels).convert("RGB").save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
def test_a_phones_picture_has_the_glyph_of_a_png(digits: Uint8, form: str) -> None:
    off = []
    for digit in digits:
        wanted, found = read_picture(written(page(digit), "PNG")), read_picture(written(page(digit), form, quality=90))
        moved = [np.roll(found.astype(int), (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        off.append(min(float(np.abs(image - wanted).mean()) for image in moved))  # a centre may be rounded otherwise
    assert np.median(off) < 0.5
    assert sum(each < 3 for each in off) >= len(off) - 1  # a width between two pixels, too


@pytest.mark.parametrize("data", [HEIC, AVIF], ids=["HEIC", "AVIF"])
def test_what_is_cut_short_is_damaged(data: bytes) -> None:
    with pytest.raises(PictureError) as refused:
        read_picture(data)
    assert refused.value.reason == "damaged"


def test_without_the_extra_heic_is_named_with_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "has_heif", lambda: False)
    with pytest.raises(PictureError, match="pillow-heif") as refused:
        read_picture(HEIC)
    assert refused.value.reason == "not_a_picture"


def test_without_avif_in_pillow_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    with pytest.raises(PictureError, match="AVIF") as refused:
        read_picture(AVIF)
    assert refused.value.reason == "not_a_picture"
