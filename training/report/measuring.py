"""What a report shows of digits, and of a tower on them. Importing this loads Keras."""

from __future__ import annotations

import numpy as np

from training.arrays import Float32, Float64, Uint8
from training.backend import keras
from training.data.dataset import Dataset
from training.fit.evaluation import BINS, FINE, JudgedPairs, judge_pairs, neighbours
from training.fit.pairs import draw_pairs
from training.model.embedder import Embedder
from training.report.facts import (
    Comparison,
    Digits,
    Edge,
    Histogram,
    Layer,
    Measured,
    Near,
    Neighbourhood,
    Pair,
    Plane,
)

SHOWN = 10  # digits, and pairs
GALLERY, NEIGHBOURS = 8, 5  # digits, and neighbours of each
POINTS = 2000  # of the plane
COLUMNS = 64  # of the histogram
USUAL = (2, 5)  # the labels that are compared


def digits_of(data: Dataset, *, drawn: bool, seed: int) -> Digits:
    """The first ones, and some of the pairs that are drawn of them. seed: decides which pairs are shown."""
    shapes = {
        "training images": data.train_images.shape,
        "training labels": data.train_labels.shape,
        "test images": data.test_images.shape,
        "test labels": data.test_labels.shape,
    }
    if drawn:
        pixels = int(np.prod(data.train_images.shape[1:]))
        shapes["training pairs"] = (2 * len(data.train_images), 2, pixels)
        shapes["test pairs"] = (2 * len(data.test_images), 2, pixels)
    return Digits(
        source=data.source,
        shapes=shapes,
        first=list(zip(data.train_images[:SHOWN], data.train_labels[:SHOWN].tolist(), strict=True)),
        pairs=some_pairs(data.train_images, data.train_labels, np.random.default_rng(seed)),
    )


def measure(tower: keras.Sequential, data: Dataset, *, threshold: float, seed: int) -> Measured:
    """seed: decides which digits are shown; the figures are of all of them."""
    rng = np.random.default_rng(seed)
    embed = Embedder(tower)
    gallery, queries = embed(data.train_images), embed(data.test_images)
    pairs = judge_pairs(queries, data.test_labels)
    return Measured(
        judged=judged_pairs(embed, data.test_images, data.test_labels, rng),
        right=pairs.accuracy(threshold),
        comparison=compare(embed, data.test_images, data.test_labels, rng),
        histogram=histogram(pairs, threshold),
        plane=plane(queries, data.test_labels),
        gallery=neighbourhoods(data, gallery, queries, rng),
    )


def layers_of(tower: keras.Sequential) -> list[Layer]:
    """From the first that computes to the embedding."""
    return [Layer(_kind(layer), tuple(layer.output.shape[1:]), layer.count_params()) for layer in tower.layers]


def _kind(layer: keras.layers.Layer) -> str:
    """`Dense, relu`; the activation where there is one."""
    activation = layer.get_config().get("activation")
    kind = type(layer).__name__
    return f"{kind}, {activation}" if activation not in (None, "linear") else kind


def some_pairs(images: Uint8, labels: Uint8, rng: np.random.Generator) -> list[Pair]:
    """The first pairs in the random order in which they are drawn."""
    drawn = draw_pairs(labels, rng)
    shown = zip(drawn.one[:SHOWN], drawn.other[:SHOWN], drawn.same[:SHOWN, 0], strict=True)
    return [Pair(images[one], images[other], bool(same)) for one, other, same in shown]


def judged_pairs(embed: Embedder, images: Uint8, labels: Uint8, rng: np.random.Generator) -> list[Pair]:
    """Pairs with their distance."""
    pairs = some_pairs(images, labels, rng)
    one, other = (embed(np.stack(side)) for side in zip(*((pair.one, pair.other) for pair in pairs), strict=True))
    measured = np.linalg.norm(one - other, axis=1).tolist()
    return [Pair(pair.one, pair.other, pair.same, distance) for pair, distance in zip(pairs, measured, strict=True)]


def compare(embed: Embedder, images: Uint8, labels: Uint8, rng: np.random.Generator) -> Comparison:
    """Two glyphs of one class and one of another: 2, 2 and 5 where the data have them."""
    known = np.unique(labels).tolist()
    twice, once = USUAL if set(USUAL) <= set(known) else known[:2]
    chosen = [images[rng.choice(np.flatnonzero(labels == label))] for label in (twice, twice, once)]
    return Comparison(chosen, [twice, twice, once], distances(embed(np.stack(chosen))))


def distances(vectors: Float32) -> list[Edge]:
    """(3, d) -> the three distances."""
    return [Edge(a, b, float(np.linalg.norm(vectors[a] - vectors[b]))) for a, b in ((0, 1), (0, 2), (1, 2))]


def histogram(pairs: JudgedPairs, threshold: float) -> Histogram:
    """Bins of equal width, from 0 to where nearly all different pairs are nearer; what lies beyond is in the last."""
    most = max(int(np.searchsorted(pairs.different_below, 0.995)), round(2 * threshold * FINE), COLUMNS)
    width = min(-(-most // COLUMNS), BINS // COLUMNS)  # of FINE's bins
    edges = np.arange(COLUMNS + 1) * width
    same, different = (_shares(below, edges) for below in (pairs.same_below, pairs.different_below))
    return Histogram(edges / FINE, same, different)


def _shares(below: Float64, edges: np.ndarray) -> Float64:
    at = below[np.minimum(edges, BINS)]
    at[-1] = below[-1]
    shares: Float64 = np.diff(at)
    return shares


def plane(vectors: Float32, labels: Uint8) -> Plane:
    """The first so many vectors on the two directions along which they vary most (Hotelling, 1933)."""
    some = vectors[:POINTS].astype(np.float64)
    _, spread, directions = np.linalg.svd(some - some.mean(axis=0), full_matrices=False)
    variance = np.square(spread)
    first, second = (variance[:2] / max(variance.sum(), 1e-12)).tolist()
    # A direction points where its largest part is positive: the same vectors give the same picture.
    signs = np.sign(np.take_along_axis(directions[:2], np.abs(directions[:2]).argmax(axis=1)[:, None], axis=1))
    places = (some - some.mean(axis=0)) @ (directions[:2] * signs).T
    return Plane(places, labels[:POINTS].tolist(), (first, second))


def neighbourhoods(data: Dataset, gallery: Float32, queries: Float32, rng: np.random.Generator) -> list[Neighbourhood]:
    """Some test images, and the training images that are nearest to each: of those with a wrong nearest one, half."""
    near = neighbours(gallery, queries, NEIGHBOURS)
    wrong = np.flatnonzero(data.train_labels[near[:, 0]] != data.test_labels)
    shown = rng.permutation(wrong)[: GALLERY // 2].tolist()
    rest = rng.permutation(np.setdiff1d(np.arange(len(queries)), shown))
    shown += rest[: GALLERY - len(shown)].tolist()
    return [
        Neighbourhood(
            data.test_images[at],
            int(data.test_labels[at]),
            [
                Near(
                    data.train_images[each],
                    int(data.train_labels[each]),
                    float(np.linalg.norm(gallery[each] - queries[at])),
                )
                for each in near[at]
            ],
        )
        for at in shown
    ]
