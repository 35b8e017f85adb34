"""Which distances mean what, found on half of the test images and checked on the other half. NumPy alone.

It must not know which tower made the embeddings.

The thresholds split pairs as `evaluation` weights them. The rule of the vote is fitted to the first half's nearest
training images, and its reliability measured on the second half: by the expected calibration error of Naeini, Cooper
and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015, over 15 bins as in Guo et
al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training.arrays import AnyArray, Float32, Float64, Int64
from training.fit.evaluation import JudgedPairs, judge_pairs, neighbours
from training.fit.vote import VOTERS, VoteRule

RATES = (0.01, 0.001)  # of different pairs that are judged same
ENOUGH_ERRORS = 30  # "rule of 30" of Doddington et al., Speech Communication 31, 2000: a rate of fewer says little
SHARES = (0.001, 0.5, 0.99)  # of images, at which the distance of the nearest is kept
RELIABILITY_BINS = 15


@dataclass(frozen=True)
class FalseAccept:
    """The distance up to which no more than `rate` of the different pairs are judged same.

    false_accept, false_reject: the rates measured there on the other half. distance: None where there were too few
    pairs to tell, and then so are these.
    """

    rate: float
    distance: float | None
    false_accept: float | None
    false_reject: float | None


@dataclass(frozen=True)
class Reliability:
    """Of the votes whose probability lies in each bin up to `upto`: how many, their mean, and the share that is right.

    Bins without a vote are left out.
    """

    upto: list[float]
    count: list[int]
    probability: list[float]
    right: list[float]


@dataclass(frozen=True)
class CalibratedVote:
    """The rule of the vote, and how it did on the other half.

    error: the expected calibration error; error_unseen: where the images that vote are unseen by the tower as well,
    those of the first half.
    """

    neighbours: int
    bandwidth: float
    prior: float
    classes: int
    accuracy: float
    log_loss: float
    error: float
    error_unseen: float
    reliability: Reliability


@dataclass(frozen=True)
class Calibration:
    """What a tower's distances mean. What `dataclasses.asdict` makes of it can be written as JSON.

    images, checked_on: test images of the two halves. threshold: of the highest pair accuracy on the first half;
    accuracy: of it on the second. nearest_share, nearest_distance: the share of the first half whose nearest training
    image lies within the distance.
    """

    images: int
    checked_on: int
    threshold: float
    accuracy: float
    false_accepts: list[FalseAccept]
    nearest_share: list[float]
    nearest_distance: list[float]
    vote: CalibratedVote


class Nearest(NamedTuple):
    """The gallery's labels and the distances, (m, k) each, of the nearest to each of m queries, nearest first."""

    labels: AnyArray
    distances: Float64

    def of(self, rows: Int64) -> Nearest:
        return Nearest(self.labels[rows], self.distances[rows])


def calibrate(
    gallery: Float32, gallery_labels: AnyArray, queries: Float32, query_labels: AnyArray, *, near: Int64
) -> Calibration | None:
    """gallery: (n, d) embeddings of the training images; queries: (m, d) of the test images; near: (m, VOTERS)
    positions of the nearest in the gallery. None where a class has one test image: each half needs one of it.
    """
    first, second = halves(query_labels)
    if np.unique(query_labels, return_counts=True)[1].min() < 2:
        return None
    found, checked = (judge_pairs(queries[half], query_labels[half]) for half in (first, second))
    threshold = found.best_threshold()
    voters = Nearest(gallery_labels[near].astype(np.int64), distances(gallery, queries, near))
    unseen = queries[first]
    near_unseen = neighbours(unseen, queries[second], VOTERS)
    return Calibration(
        images=len(first),
        checked_on=len(second),
        threshold=threshold,
        accuracy=checked.accuracy(threshold),
        false_accepts=false_accepts(found, checked, different_pairs(query_labels[first])),
        nearest_share=list(SHARES),
        nearest_distance=np.quantile(voters.distances[first, 0], SHARES).tolist(),
        vote=calibrated_vote(
            voters.of(first),
            query_labels[first],
            voters.of(second),
            Nearest(query_labels[first][near_unseen].astype(np.int64), distances(unseen, queries[second], near_unseen)),
            query_labels[second],
            classes=len(np.unique(gallery_labels)),
        ),
    )


def halves(labels: AnyArray) -> tuple[Int64, Int64]:
    """Positions of every other image of each class, and those of the rest. A class of one is in the first half."""
    order = np.argsort(labels, kind="stable")
    _, sizes = np.unique(labels, return_counts=True)
    places = np.concatenate([np.arange(size) for size in sizes])
    return order[places % 2 == 0], order[places % 2 == 1]


def different_pairs(labels: AnyArray) -> int:
    """How many pairs of two images are of different classes."""
    sizes = np.unique(labels, return_counts=True)[1]
    return int(len(labels) ** 2 - (sizes**2).sum()) // 2


def false_accepts(
    found: JudgedPairs, checked: JudgedPairs, pairs: int, rates: Sequence[float] = RATES
) -> list[FalseAccept]:
    """The distance for each rate on one half's `pairs` different pairs, and what it comes to on the other half."""
    levels = []
    for rate in rates:
        if pairs * rate < ENOUGH_ERRORS:
            levels.append(FalseAccept(rate, None, None, None))
            continue
        distance = found.false_accept_distance(rate)
        levels.append(FalseAccept(rate, distance, checked.false_accept(distance), checked.false_reject(distance)))
    return levels


def distances(gallery: Float32, queries: Float32, near: Int64) -> Float64:
    """(m, k) positions in the gallery -> (m, k) distances; a column at a time, in bounded memory."""
    columns = [np.linalg.norm(queries - gallery[column], axis=1) for column in near.T]
    return np.stack(columns, axis=1).astype(np.float64)


def calibrated_vote(
    fitted_on: Nearest,
    labels: AnyArray,
    checked_on: Nearest,
    unseen: Nearest,
    checked_labels: AnyArray,
    *,
    classes: int,
) -> CalibratedVote:
    """Fit the rule to one half's neighbours, and measure it on the other's, and on their neighbours in the first."""
    rule = VoteRule.fit(fitted_on.labels == labels[:, None], fitted_on.distances, classes=classes)
    elected = rule.elect(*checked_on)
    right = elected.labels == checked_labels
    truth = rule.probability(checked_labels.astype(np.int64), *checked_on)
    by_unseen = rule.elect(*unseen)
    return CalibratedVote(
        neighbours=VOTERS,
        bandwidth=rule.bandwidth,
        prior=rule.prior,
        classes=classes,
        accuracy=float(right.mean()),
        log_loss=-float(np.log(truth).mean()),
        error=calibration_error(elected.probabilities, right),
        error_unseen=calibration_error(by_unseen.probabilities, by_unseen.labels == checked_labels),
        reliability=reliability(elected.probabilities, right),
    )


def reliability(probabilities: Float64, right: AnyArray) -> Reliability:
    """(m,) probabilities and (m,) bool -> what they come to in bins of equal width."""
    bins = np.minimum((probabilities * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    used, place, counts = np.unique(bins, return_inverse=True, return_counts=True)
    return Reliability(
        upto=[round(float(bin + 1) / RELIABILITY_BINS, 6) for bin in used],
        count=counts.tolist(),
        probability=(np.bincount(place, probabilities) / counts).tolist(),
        right=(np.bincount(place, right) / counts).tolist(),
    )


def calibration_error(probabilities: Float64, right: AnyArray) -> float:
    """The mean over all votes of how far the probability of their bin is from the share that is right there."""
    found = reliability(probabilities, right)
    gaps = np.abs(np.subtract(found.probability, found.right))
    return float(np.average(gaps, weights=found.count))
