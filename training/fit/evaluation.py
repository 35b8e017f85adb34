"""How good embeddings are, at judging pairs and as neighbours: exact, without sampling, in NumPy alone.

It must not know which tower made the embeddings.

Distances are Euclidean. Pairs are weighted as the notebook draws them: for each test image one partner of its class
(which may be the image itself) and one of another class, every such partner equally likely; an accuracy is what that
draw comes to on average.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from training.arrays import AnyArray, Float32, Float64, Int64

FINE = 1024  # bins a unit of distance: a power of two, so that a bin's edge is an exact float
BINS = 4 * FINE  # distances of 4 and more share the last
CURVE = np.arange(0.0, 1.5001, 0.05)  # thresholds at which the error rates are kept
BLOCK_BYTES = 32 * 2**20  # of a block of distances


class Title(NamedTuple):
    """What a measure is called where it is shown."""

    short: str  # over a column
    long: str  # before a value


MEASURES = {  # those fields of Evaluation that are a share of the test images or pairs: 1 is perfect
    "pair_accuracy": Title("pairs at 0.5", "pairs, at 0.5"),
    "best_pair_accuracy": Title("pairs, best", "pairs, at the best of thresholds"),
    "nearest_1": Title("1-NN", "nearest training image"),
    "nearest_5": Title("5-NN", "vote of the nearest 5"),
    "recall_1": Title("R@1", "recall@1"),
    "recall_10": Title("R@10", "recall@10"),
    "map_at_r": Title("MAP@R", "MAP@R"),
}


@dataclass(frozen=True)
class Evaluation:
    """Every measure of a tower. What `dataclasses.asdict` makes of it can be written as JSON."""

    pair_accuracy: float  # at the threshold that `evaluate` was given
    best_threshold: float  # where the accuracy is the highest, on these same pairs
    best_pair_accuracy: float
    nearest_1: float  # how often the nearest training image is of the right class
    nearest_5: float  # how often the vote of the nearest 5 is
    recall_1: float  # as `retrieval` defines it, like the next two
    recall_10: float
    map_at_r: float
    curve: dict[str, list[float]]  # error rates by threshold
    confusion: dict[str, list[Any]]  # labels, and a row of counts for each
    evaluation_seconds: float


def evaluate(
    gallery: Float32,
    gallery_labels: AnyArray,
    queries: Float32,
    query_labels: AnyArray,
    *,
    threshold: float,
    near: Int64 | None = None,
) -> Evaluation:
    """gallery: (n, d) embeddings of the training images; queries: (m, d) of the test images, n and m at least 2.

    near: (m, 5 or more) positions of the nearest in the gallery, where they are known.
    """
    start = time.perf_counter()
    pairs = judge_pairs(queries, query_labels)
    best = pairs.best_threshold()
    near = neighbours(gallery, queries, 5) if near is None else near[:, :5]
    nearest = gallery_labels[near]  # (m, 5) labels
    recall_1, recall_10, map_at_r = retrieval(queries, query_labels)
    return Evaluation(
        pair_accuracy=pairs.accuracy(threshold),
        best_threshold=best,
        best_pair_accuracy=pairs.accuracy(best),
        nearest_1=float(np.mean(nearest[:, 0] == query_labels)),
        nearest_5=float(np.mean(votes(nearest) == query_labels)),
        recall_1=recall_1,
        recall_10=recall_10,
        map_at_r=map_at_r,
        curve=pairs.curve(),
        confusion=confusion(query_labels, nearest[:, 0]),
        evaluation_seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True)
class JudgedPairs:
    """How often a threshold errs, by distance bins of 1 / FINE.

    same_below, different_below: (BINS + 1,), the share of same and of different pairs whose distance is below
    the bin's lower edge.
    """

    same_below: Float64
    different_below: Float64

    def accuracy(self, threshold: float) -> float:
        """Pairs judged rightly, `same` below the threshold, to the bin (exact for multiples of 1 / FINE)."""
        edge = self._edge(threshold)
        return float((self.same_below[edge] + 1 - self.different_below[edge]) / 2)

    def best_threshold(self) -> float:
        """The lowest threshold of the highest accuracy."""
        return int(np.argmax(self.same_below[:-1] - self.different_below[:-1])) / FINE

    def false_accept(self, threshold: float) -> float:
        """The share of different pairs that are judged same."""
        return float(self.different_below[self._edge(threshold)])

    def false_reject(self, threshold: float) -> float:
        """The share of same pairs that are judged different."""
        return float(1 - self.same_below[self._edge(threshold)])

    def false_accept_distance(self, rate: float) -> float:
        """The highest threshold that judges at most `rate` of the different pairs same, to the bin."""
        return (int(np.searchsorted(self.different_below, rate, side="right")) - 1) / FINE

    def curve(self) -> dict[str, list[float]]:
        """False accepts (different judged same) and false rejects (same judged different) at CURVE's thresholds."""
        edges = [self._edge(threshold) for threshold in CURVE]
        return {
            "threshold": [round(float(threshold), 2) for threshold in CURVE],
            "false_accept": [round(float(self.different_below[edge]), 6) for edge in edges],
            "false_reject": [round(float(1 - self.same_below[edge]), 6) for edge in edges],
        }

    def _edge(self, threshold: float) -> int:
        return min(max(round(threshold * FINE), 0), BINS)


def judge_pairs(embeddings: Float32, labels: AnyArray) -> JudgedPairs:
    """The distances of all pairs of (m, d) embeddings, counted. At least two classes."""
    classes, sizes = np.unique(labels, return_counts=True)
    groups = [embeddings[labels == label] for label in classes]
    count = len(labels)
    same, different = np.zeros(BINS), np.zeros(BINS)
    for one, group in enumerate(groups):
        size = sizes[one]
        same += _histogram(group, group, itself=True) / (size * count)
        for two in range(one):
            # Either twin may be the one that draws the other: a weight for each.
            weight = 1 / (count - size) + 1 / (count - sizes[two])
            different += _histogram(group, groups[two]) * weight / count
    return JudgedPairs(_below(same), _below(different))


def _histogram(one: Float32, two: Float32, *, itself: bool = False) -> Int64:
    """(BINS,): how many of the (n, d) x (m, d) distances lie in each bin."""
    counts = np.zeros(BINS, np.int64)
    for rows, squares in squared_distances(one, two):
        if itself:
            squares[np.arange(len(rows)), rows] = 0  # else rounding leaves an image at some distance from itself
        bins = np.minimum(np.sqrt(squares, out=squares) * FINE, BINS - 1).astype(np.intp)
        counts += np.bincount(bins.ravel(), minlength=BINS)
    return counts


def _below(shares: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(shares)])


def squared_distances(one: Float32, two: Float32) -> Iterator[tuple[Int64, Float32]]:
    """Blocks of rows of the (n, m) matrix: the rows' positions (b,), and (b, m) float32 of 0 and more."""
    two_squares = np.einsum("ij,ij->i", two, two)
    for rows in _blocks(len(one), len(two)):
        some = one[rows]
        block = some @ two.T
        block *= -2
        block += np.einsum("ij,ij->i", some, some)[:, None]
        block += two_squares
        yield rows, np.maximum(block, 0, out=block)


def _blocks(rows: int, columns: int) -> Iterator[Int64]:
    """The rows' positions, so many at a time that a float32 block of them stays small."""
    size = max(1, BLOCK_BYTES // (4 * columns))
    for start in range(0, rows, size):
        yield np.arange(start, min(start + size, rows))


def neighbours(gallery: Float32, queries: Float32, count: int) -> Int64:
    """(m, count) positions in the gallery, nearest first; fewer columns where the gallery is smaller."""
    count = min(count, len(gallery))
    positions = np.empty((len(queries), count), np.int64)
    # |g|^2 / 2 - q.g orders a query's neighbours as distances do, and is one matrix product.
    half_squares = np.einsum("ij,ij->i", gallery, gallery)[:, None] / 2
    keys = np.concatenate([-gallery, half_squares], axis=1).T
    extended = np.concatenate([queries, np.ones((len(queries), 1), queries.dtype)], axis=1)
    for rows in _blocks(len(queries), len(gallery)):
        scores = extended[rows] @ keys
        for column in range(count):
            nearest = np.argmin(scores, axis=1)  # a few passes cost less than a partition of 60,000
            positions[rows, column] = nearest
            scores[np.arange(len(rows)), nearest] = np.inf
    return positions


def votes(labels: AnyArray) -> AnyArray:
    """(m, k) labels of the nearest, nearest first -> (m,) the most frequent; a tie goes to the nearest."""
    agreeing = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    winner: AnyArray = labels[np.arange(len(labels)), np.argmax(agreeing, axis=1)]
    return winner


class Retrieval(NamedTuple):
    """How well images find the others of their class."""

    recall_1: float
    recall_10: float
    map_at_r: float


def retrieval(embeddings: Float32, labels: AnyArray) -> Retrieval:
    """Every image is a query for the others of its class, itself left out. An image alone in its class is not a query.

    recall_1, recall_10: how often one of the nearest 1 and 10 is of the class. map_at_r: the mean average precision at
    R of Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020: with R others of the class, the mean
    over ranks 1..R of the precision at that rank, counting ranks where the class is right.
    """
    recall_1, recall_10, precision, queries = 0, 0, 0.0, 0
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    others = sizes[codes] - 1
    deepest = min(max(int(others.max()), 10), len(labels) - 1)
    ranks = np.arange(1, deepest + 1)
    for rows, squares in squared_distances(embeddings, embeddings):
        squares[np.arange(len(rows)), rows] = np.inf
        order = _first(squares, deepest)
        is_query = others[rows] > 0
        right = (codes[order] == codes[rows, None])[is_query]
        counted = others[rows][is_query, None]
        recall_1 += int(right[:, 0].sum())
        recall_10 += int(right[:, :10].any(axis=1).sum())
        hits = right & (ranks <= counted)
        precision += float((np.cumsum(hits, axis=1) * hits / ranks / counted).sum())
        queries += int(is_query.sum())
    queries = max(queries, 1)
    return Retrieval(recall_1 / queries, recall_10 / queries, precision / queries)


def _first(squares: Float32, count: int) -> Int64:
    """(b, m) -> (b, count) columns of the smallest, in order."""
    rows = np.arange(len(squares))[:, None]
    if count < squares.shape[1]:
        candidates = np.argpartition(squares, count - 1, axis=1)[:, :count]
    else:
        candidates = np.broadcast_to(np.arange(count), squares.shape)
    return candidates[rows, np.argsort(squares[rows, candidates], axis=1, kind="stable")]


def confusion(labels: AnyArray, predicted: AnyArray) -> dict[str, list[Any]]:
    """`labels`, in order, and `counts`, a row a label: how often its images were predicted to be each label."""
    names = np.union1d(labels, predicted)
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (np.searchsorted(names, labels), np.searchsorted(names, predicted)), 1)
    return {"labels": names.tolist(), "counts": counts.tolist()}
