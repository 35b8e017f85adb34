"""What a report shows, as records. They hold no model and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.arrays import Float64, Uint8


@dataclass(frozen=True)
class Pair:
    """Two (28, 28) uint8 glyphs, whether they show the same digit, and the distance of their embeddings: None where
    they were not judged."""

    one: Uint8
    other: Uint8
    same: bool
    distance: float | None = None


@dataclass(frozen=True)
class Near:
    """A neighbour: its (28, 28) uint8 glyph, its label and its distance."""

    glyph: Uint8
    label: int
    distance: float


@dataclass(frozen=True)
class Neighbourhood:
    """A digit and its nearest neighbours, nearest first."""

    glyph: Uint8
    label: int
    neighbours: Sequence[Near]


@dataclass(frozen=True)
class Edge:
    """Two glyphs of a comparison, by position, and the distance of their embeddings."""

    one: int
    other: int
    distance: float


@dataclass(frozen=True)
class Comparison:
    """Three glyphs, two of one digit and one of another, and the distance of each two."""

    glyphs: Sequence[Uint8]
    labels: Sequence[int]
    edges: Sequence[Edge]


@dataclass(frozen=True)
class Histogram:
    """The share of the same and of the different pairs whose distance lies in each of n bins, the last one open.

    edges: (n + 1,). same, different: (n,).
    """

    edges: Float64
    same: Float64
    different: Float64


@dataclass(frozen=True)
class Plane:
    """Vectors on their first two principal components. places: (n, 2). explained: the share of variance along each."""

    places: Float64
    labels: Sequence[int]
    explained: tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """A layer of a network: its kind, the shape of what it makes of one image, and how many weights it has."""

    kind: str
    shape: tuple[int, ...]
    weights: int


@dataclass(frozen=True, kw_only=True)
class Digits:
    """What towers are shown on. source: in words. shapes: of the arrays, by name."""

    source: str
    shapes: Mapping[str, tuple[int, ...]]
    first: Sequence[tuple[Uint8, int]]
    pairs: Sequence[Pair]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a tower makes of those digits. right: the share of all pairs, same and different ones alike, that its
    threshold judges rightly."""

    judged: Sequence[Pair]
    right: float
    comparison: Comparison
    histogram: Histogram
    plane: Plane
    gallery: Sequence[Neighbourhood]


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A tower. about: what is known of it, in words. metrics, history: as its training measured them.

    verdict: as `towers.verdict` holds it. layers: None where its file is not there any more. drawn: whether it was
    trained on drawn pairs, else on all pairs of a batch. measured: None where it has no file, or there are no digits.
    """

    name: str
    fingerprint: str
    about: Mapping[str, str]
    metrics: Mapping[str, Any]
    history: Mapping[str, Sequence[float]]
    threshold: float
    verdict: Mapping[str, Any] | None
    layers: Sequence[Layer] | None
    drawn: bool
    measured: Measured | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """One tower, or two side by side. left_out: what is not shown, and why, a sentence each."""

    towers: Sequence[Tower]
    digits: Digits | None
    left_out: Sequence[str]
    made_at: str
