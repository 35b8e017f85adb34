"""Random distortions of glyphs: turned, stretched, sheared, shifted, and bent. NumPy alone; it must not know Keras."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from training.arrays import SIDE, Float32, Int64, Uint8
from training.recipes import Warp

CENTRE = (SIDE - 1) / 2
LAST = np.nextafter(np.float32(SIDE - 1), np.float32(0))  # a source beyond the edge is the edge's pixel


class Tables(NamedTuple):
    """Where each pixel of an image comes from: four neighbouring pixels, by bilinear weights."""

    corners: Int64  # (n, 784) int64: the upper left of the four
    weights: Float32  # (n, 4, 784) float32: of upper left, upper right, lower left, lower right; their sum is 1


def warped(images: Uint8, warp: Warp, rng: np.random.Generator) -> Float32:
    """(n, 784) uint8 -> (n, 784) float32 in 0..1, every `warp.group` images distorted alike."""
    starts = range(0, len(images), warp.group)
    corners_of, weights_of = draw_tables(len(starts), warp, rng)
    weights_of /= 255
    thicker_of = rng.uniform(-warp.stroke, warp.stroke, len(starts)) if warp.stroke else np.zeros(len(starts))
    result = np.empty(images.shape, np.float32)
    for start, corners, weights, thicker in zip(starts, corners_of, weights_of, thicker_of, strict=True):
        group = slice(start, start + warp.group)
        result[group] = _moved(_thickened(images[group], thicker), corners, weights).T
    return result


def weakened(warp: Warp, share: float) -> Warp:
    """The warp as it is when `share` of the epochs are over."""
    left = min(1.0, max(warp.rest, (1 - share) / warp.fade)) if warp.fade else 1.0
    return replace(
        warp,
        rotation=left * warp.rotation,
        stretch=left * warp.stretch,
        shear=left * warp.shear,
        shift=left * warp.shift,
        stroke=left * warp.stroke,
        elastic=left * warp.elastic,
    )


def draw_tables(count: int, warp: Warp, rng: np.random.Generator) -> Tables:
    """`count` distortions, each its own."""
    rows, columns = _sources(count, warp, rng)
    upper, left = np.floor(rows), np.floor(columns)
    down, right = rows - upper, columns - left
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], axis=1)
    return Tables((upper * SIDE + left).astype(np.int64), weights)


def _sources(count: int, warp: Warp, rng: np.random.Generator) -> tuple[Float32, Float32]:
    """Two (count, 784) float32: the row and the column that each pixel is taken from, within 0..27."""
    place = np.arange(SIDE, dtype=np.float32) - CENTRE
    down, right = (axis.reshape(1, -1) for axis in np.meshgrid(place, place, indexing="ij"))
    bends = _bends(count, warp, rng)
    spread = rng.uniform(-1, 1, (7, count, 1)).astype(np.float32)
    angle = np.radians(np.float32(warp.rotation)) * spread[0]
    tall, wide = np.exp(np.float32(warp.stretch) * spread[1]), np.exp(np.float32(warp.stretch) * spread[2])
    lean_down, lean_right = warp.shear * spread[3], warp.shear * spread[4]
    sheared_down, sheared_right = tall * (down + lean_down * right), wide * (right + lean_right * down)
    cos, sin = np.cos(angle), np.sin(angle)
    rows = cos * sheared_down - sin * sheared_right + warp.shift * spread[5] + bends[:, 0] + CENTRE
    columns = sin * sheared_down + cos * sheared_right + warp.shift * spread[6] + bends[:, 1] + CENTRE
    return np.clip(rows, 0, LAST, dtype=np.float32), np.clip(columns, 0, LAST, dtype=np.float32)


def _bends(count: int, warp: Warp, rng: np.random.Generator) -> Float32:
    """(count, 2, 784) float32: noise, blurred by a Gaussian, of `warp.elastic` pixels' standard deviation."""
    if not warp.elastic:
        return np.zeros((count, 2, 1), np.float32)
    offsets = np.subtract.outer(np.arange(SIDE), np.arange(SIDE))
    kernel = np.exp(-0.5 * np.square(offsets / warp.smoothness))
    # A sum of squares of 1 keeps the noise's variance.
    blur = (kernel / np.sqrt(np.square(kernel).sum(axis=1, keepdims=True))).astype(np.float32)
    noise = rng.standard_normal((count, 2, SIDE, SIDE), dtype=np.float32)
    bends: Float32 = np.float32(warp.elastic) * (blur @ noise @ blur.T).reshape(count, 2, -1)
    return bends


def _thickened(images: Uint8, share: float) -> Float32:
    """(n, 784) uint8 -> (784, n) float32: so much of the way to strokes with a pixel more on every side; below 0, to
    those with a pixel less. Grey dilation, or erosion, by a pixel and its four neighbours.

    Pixels become rows, so that a pixel of all images is one copy.
    """
    levels = np.ascontiguousarray(images.T)
    pixels = levels.astype(np.float32)
    if not share:
        return pixels
    extreme = np.maximum if share > 0 else np.minimum
    around = levels.reshape(SIDE, SIDE, -1)
    brushed = around.copy()
    for one, other in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        extreme(brushed[one], around[other], out=brushed[one])
        extreme(brushed[other], around[one], out=brushed[other])
    change = brushed.reshape(levels.shape).astype(np.float32)
    change -= pixels
    change *= np.float32(abs(share))
    pixels += change
    return pixels


def _moved(pixels: Float32, corners: Int64, weights: Float32) -> Float32:
    """(784, n) float32 by one table -> (784, n) float32."""
    moved = np.take(pixels, corners, axis=0)
    moved *= weights[0][:, None]
    for step, weight in zip((1, SIDE, SIDE + 1), weights[1:], strict=True):
        neighbour = np.take(pixels, corners + step, axis=0)
        neighbour *= weight[:, None]
        moved += neighbour
    return moved
