"""What normalisation gains on digits that do not have MNIST's form: plainly resized against normalised pictures.

    python benchmarks/pictures.py [--tower tower.keras]

Prints, for each kind of picture, how often the 5 nearest of the 60,000 training digits vote for the right digit.
Without a tower one is trained by the recipe `notebook`, which takes minutes. The kinds: MNIST's test digits, pasted,
framed and photographed; digits of matplotlib's fonts; and, where scikit-learn is installed, the 1,797 digits of its
`load_digits` (scanned forms of other writers, 8x8).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, which has a `training` of its own

# imported once the path is right
from training.arrays import AnyArray, Uint8
from training.data import mnist
from training.data.dataset import Dataset
from training.errors import PictureError
from training.fit.train import train
from training.model.embedder import Embedder
from training.model.storage import load
from training.pictures.read import read_picture
from training.recipes import NOTEBOOK

Kind = tuple[str, list[Uint8], AnyArray]  # name, pictures of any size, what they show

K = 5
COUNT = 1000  # test digits of each kind that is made from MNIST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", type=Path, help="a .keras file of Twinvec's")
    parser.add_argument("--data", type=Path, help="MNIST, where it is not found by itself")
    arguments = parser.parse_args()
    data = mnist.load(arguments.data)
    file = arguments.tower.read_bytes() if arguments.tower else train(NOTEBOOK, data, seed=0, verbose=1).file
    vote = voter(Embedder(load(file)), data)
    print(f"{'pictures':<44}{'count':>6}{'resized':>9}{'normalised':>12}{'refused':>9}{'ms each':>9}")
    for name, pictures, shown in kinds(data):
        files = [png(picture) for picture in pictures]
        resized = np.stack([read_picture(file, normalise=False) for file in files])
        start = time.perf_counter()
        normalised = [read_or_none(file) for file in files]
        each = 1000 * (time.perf_counter() - start) / len(files)
        refused = sum(glyph is None for glyph in normalised)
        glyphs = np.stack([np.zeros((28, 28), np.uint8) if glyph is None else glyph for glyph in normalised])
        right = [np.mean(vote(each) == shown) for each in (resized, glyphs)]
        print(f"{name:<44}{len(files):>6}{right[0]:>9.3f}{right[1]:>12.3f}{refused:>9}{each:>9.2f}", flush=True)


def voter(embed: Embedder, data: Dataset) -> Callable[[Uint8], AnyArray]:
    """Glyphs -> what most of the K nearest training digits show."""
    gallery = embed(data.train_images)
    squares = np.square(gallery).sum(axis=1)

    def vote(glyphs: Uint8) -> AnyArray:
        near = [
            np.argpartition(squares - 2 * some @ gallery.T, K, axis=1)[:, :K]
            for some in np.array_split(embed(glyphs), max(1, len(glyphs) // 500))
        ]
        labels = data.train_labels[np.concatenate(near)]
        return np.array([np.bincount(row, minlength=10).argmax() for row in labels])

    return vote


def kinds(data: Dataset) -> Iterator[Kind]:
    """Every kind of picture, from seeds of its own."""
    random = np.random.default_rng(0)
    chosen = random.choice(len(data.test_images), COUNT, replace=False)
    digits, shown = data.test_images[chosen], data.test_labels[chosen]
    yield "MNIST, as it is", list(digits), shown
    yield "MNIST, inverted", [255 - digit for digit in digits], shown
    yield "MNIST, 8 times as large", [enlarged(digit, 224) for digit in digits], shown
    yield "MNIST, cut tight", [255 - enlarged(cut(digit), 80) for digit in digits], shown
    yield "MNIST, small in a corner of a sheet", [255 - pasted(digit, 40, 200, random) for digit in digits], shown
    yield "MNIST, 60 pixels in 1,200", [255 - pasted(digit, 60, 1200, random) for digit in digits], shown
    yield "MNIST, in a printed box", [255 - boxed(digit) for digit in digits], shown
    yield "MNIST, in a thick border", [np.pad(255 - enlarged(digit, 56), 16) for digit in digits], shown
    yield "MNIST, photographed (shade, noise, JPEG)", [photographed(digit, random) for digit in digits], shown
    yield fonts()
    yield from scanned()


def scanned() -> Iterator[Kind]:
    """scikit-learn's digits, as they are and enlarged."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  # only this kind needs it
    except ImportError:
        print("scanned digits of other writers: left out, because scikit-learn is not installed")
        return
    scans = load_digits()
    levels = [np.rint(image * 255 / 16).astype(np.uint8) for image in scans.images]
    yield "scanned, other writers, 8x8", levels, scans.target
    yield "scanned, other writers, 64x64, dark on light", [255 - enlarged(level, 64) for level in levels], scans.target


def fonts() -> Kind:
    """Each digit in each upright and slanted text face that matplotlib brings, at three sizes."""
    faces = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"))
    faces = [face for face in faces if "Display" not in face.name]
    pictures, shown = [], []
    for face in faces:
        for size in (16, 40, 120):
            for digit in range(10):
                page = Image.new("L", (2 * size, 2 * size), 255)
                ImageDraw.Draw(page).text((size // 2, size // 3), str(digit), 0, ImageFont.truetype(face, size))
                pictures.append(np.asarray(page))
                shown.append(digit)
    return f"printed, {len(faces)} faces, 16 to 120 pixels", pictures, np.array(shown)


def enlarged(digit: Uint8, longer: int) -> Uint8:
    height, width = digit.shape
    scale = longer / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC))


def cut(digit: Uint8) -> Uint8:
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def pasted(digit: Uint8, longer: int, side: int, random: np.random.Generator) -> Uint8:
    sheet = np.zeros((side, side), np.uint8)
    top, left = random.integers(0, side - longer + 1, 2)
    sheet[top : top + longer, left : left + longer] = enlarged(digit, longer)
    return sheet


def boxed(digit: Uint8) -> Uint8:
    return np.pad(np.pad(np.pad(enlarged(digit, 60), 6), 2, constant_values=255), 6)


def photographed(digit: Uint8, random: np.random.Generator) -> Uint8:
    share = pasted(digit, 120, int(random.integers(150, 240)), random) / 255
    down, across = np.mgrid[-1 : 1 : share.shape[0] * 1j, -1 : 1 : share.shape[1] * 1j]
    shade = random.uniform(-40, 40) * down + random.uniform(-40, 40) * across
    light = 180 + shade - share * random.uniform(50, 120) + random.normal(0, 6, share.shape)
    file = BytesIO()
    Image.fromarray(light.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file))


def png(picture: Uint8) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def read_or_none(file: bytes) -> Uint8 | None:
    try:
        return read_picture(file)
    except PictureError:
        return None


if __name__ == "__main__":
    main()
