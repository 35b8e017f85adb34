"""A picture that kills the process that decodes it is refused, and costs nothing else: that process is a child."""

import signal
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.makers import eventually, glyph
from training.errors import PictureError
from training.pictures.sandbox import Decoder, reader


def png(seed: int) -> bytes:
    """A 28x28 PNG of glyph(seed)."""
    file = BytesIO()
    Image.fromarray(np.frombuffer(glyph(seed), np.uint8).reshape(28, 28)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(False, seconds=20)
    yield decoder
    decoder.end()


def children() -> list[psutil.Process]:
    """The decoding processes that run."""
    return [child for child in psutil.Process().children() if "training.pictures.sandbox_process" in command_of(child)]


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended, and is not reaped yet
        return ""


def test_it_decodes_as_the_process_itself_would(decoder: Decoder) -> None:
    with reader(False, sandboxed=False) as here:
        for seed in range(3):
            assert decoder.read(png(seed)) == here(png(seed)) == glyph(seed)


def test_a_refusal_comes_with_its_reason(decoder: Decoder) -> None:
    with pytest.raises(PictureError) as refused:
        decoder.read(b"no picture")
    assert refused.value.reason == "not_a_picture"
    assert decoder.read(png(1)) == glyph(1)


def test_what_kills_the_decoder_is_poison_and_the_next_is_read(decoder: Decoder) -> None:
    decoder.read(png(1))
    (process,) = children()
    process.send_signal(signal.SIGSEGV)
    eventually(lambda: process.status() == psutil.STATUS_ZOMBIE, "the decoder dies")
    with pytest.raises(PictureError, match="died") as refused:
        decoder.read(png(2))
    assert refused.value.reason == "poison"
    assert decoder.read(png(3)) == glyph(3)


def test_what_never_ends_is_poison(decoder: Decoder) -> None:
    decoder.read(png(1))
    (process,) = children()
    process.suspend()
    decoder._seconds = 0.2
    with pytest.raises(PictureError, match=r"ended after 0\.2 s") as refused:
        decoder.read(png(2))
    assert refused.value.reason == "poison"
    assert not children()


def test_the_pictures_of_a_chunk_share_their_time(decoder: Decoder) -> None:
    decoder._left = 20
    decoder.read(png(1))
    assert 0 < decoder._left < 20
    decoder._left = 0.01
    with pytest.raises(PictureError, match="used up the time") as refused:
        decoder.read(png(2))
    assert refused.value.reason == "too_costly"


def test_no_decoder_outlives_its_chunk() -> None:
    with reader(False, sandboxed=True) as read:
        assert read(png(1)) == glyph(1)
        assert len(children()) == 1
    assert not children()
