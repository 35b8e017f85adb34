"""The label of a picture by the vote of its labelled neighbours, and the probability that it is right.

It must not know where the neighbours come from. NumPy alone.

The probability of a class is that of a kernel classifier (Nadaraya, "On Estimating Regression", 1964, and Watson,
"Smooth Regression Analysis", 1964, of a class's indicator) with additive smoothing (Lidstone, 1920):

    P(c) = (prior + sum of exp(-distance / bandwidth) over the voters of class c)
         / (prior * classes + sum of exp(-distance / bandwidth) over all voters)

So neighbours that agree raise it, and it falls to one in `classes` where all of them are far away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from training.arrays import AnyArray, Float64

VOTERS = 10  # of a picture's nearest, those that vote where they have a label
NO_LABEL = -1  # stands for the label of a neighbour that has none: it does not vote

_STEPS = 81  # of each parameter that is tried: 12 % apart for the bandwidth, 20 % for the prior


class Winners(NamedTuple):
    """The label that each picture's neighbours elect, (m,), NO_LABEL where none has one, and its probability, (m,)."""

    labels: AnyArray
    probabilities: Float64


@dataclass(frozen=True)
class VoteRule:
    """How much a neighbour's vote weighs.

    bandwidth: the distance at which a vote's weight is 1/e. prior: the weight that each class has beforehand. classes:
    how many there are; more, where more labels are among the voters.
    """

    bandwidth: float
    prior: float
    classes: int

    def elect(self, labels: AnyArray, distances: Float64) -> Winners:
        """(m, k) labels and distances of neighbours, nearest first -> the class of the highest probability.

        A tie goes to the label of the nearer neighbour.
        """
        of_label, total, classes = self._weights(labels, distances)
        first = np.argmax(np.where(labels == NO_LABEL, -1.0, of_label), axis=1)
        rows = np.arange(len(labels))
        return Winners(labels[rows, first], (of_label[rows, first] + self.prior) / (total + self.prior * classes))

    def probability(self, of: AnyArray, labels: AnyArray, distances: Float64) -> Float64:
        """(m,) labels, and (m, k) labels and distances of neighbours -> (m,): the probability of each label."""
        weights = self._weight(labels, distances)
        _, total, classes = self._weights(labels, distances)
        agreeing: Float64 = (weights * (labels == of[:, None])).sum(axis=1)
        known: AnyArray = (labels == of[:, None]).any(axis=1)
        # A label that no voter has may be one of those that the rule counts, or one more.
        found: Float64 = (agreeing + self.prior) / (
            total + self.prior * np.maximum(classes, _distinct(labels) + ~known)
        )
        return found

    def _weights(self, labels: AnyArray, distances: Float64) -> tuple[Float64, Float64, AnyArray]:
        """The weight of all that vote as each voter does, (m, k); of all, (m,); and the number of classes, (m,)."""
        weights = self._weight(labels, distances)
        agree = labels[:, :, None] == labels[:, None, :]  # (m, k, k)
        of_label = (agree * weights[:, None, :]).sum(axis=2)
        return of_label, weights.sum(axis=1), np.maximum(_distinct(labels), self.classes)

    def _weight(self, labels: AnyArray, distances: Float64) -> Float64:
        return np.where(labels == NO_LABEL, 0.0, np.exp(-np.asarray(distances, np.float64) / self.bandwidth))

    @classmethod
    def fit(cls, right: AnyArray, distances: Float64, *, classes: int) -> Self:
        """The rule with the lowest log loss: mean of -log P(true class), over a grid of bandwidths and priors.

        right: (m, k) bool, whether a neighbour is of the picture's class. distances: (m, k) of the neighbours.
        """
        usual = float(np.median(distances)) or float(np.mean(distances)) or 1.0
        best, loss = cls(usual, 1.0, classes), np.inf
        for bandwidth in np.geomspace(usual / 100, usual * 100, _STEPS):
            weights = np.exp(-distances / bandwidth)
            agreeing, total = (weights * right).sum(axis=1), weights.sum(axis=1)
            for prior in np.geomspace(1e-6, 1.0, _STEPS):
                found = -float(np.log((agreeing + prior) / (total + prior * classes)).mean())
                if found < loss:
                    best, loss = cls(float(bandwidth), float(prior), classes), found
        return best


def plain_vote(labels: AnyArray) -> AnyArray:
    """(m, k) labels, nearest first -> (m,) the most frequent, as where nothing is known of the weights.

    A tie goes to the nearer; NO_LABEL where no neighbour has one.
    """
    return VoteRule(np.inf, 1.0, 1).elect(labels, np.zeros(labels.shape)).labels


def _distinct(labels: AnyArray) -> AnyArray:
    """(m, k) -> (m,): how many labels there are in each row, NO_LABEL not counted."""
    ordered = np.sort(labels, axis=1)
    new = np.concatenate([np.ones((len(labels), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    counts: AnyArray = (new & (ordered != NO_LABEL)).sum(axis=1)
    return counts
