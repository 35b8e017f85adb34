"""What neighbours say together: a label with its probability, or that nothing matches. It must not look anything up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from db.vectors.search import Neighbour
from db.vectors.towers import Space
from training.arrays import Float64, Int64
from training.fit.vote import NO_LABEL, VOTERS, VoteRule, plain_vote


class Match(NamedTuple):
    """As `twinvec_client.contract.answers.Match`."""

    matched: bool
    label: int | None
    probability: float | None
    voters: int


def match(neighbours: Sequence[Neighbour], space: Space, *, doubtful: bool = False) -> Match:
    """The vote of the first VOTERS of the neighbours, nearest first, where the nearest is within the threshold.

    doubtful: whether what was asked about looks like no digit; then nothing matches.
    """
    labels, distances = _ballots(neighbours)
    voters = int((labels != NO_LABEL).sum())
    if doubtful or not neighbours or neighbours[0].distance > space.threshold:
        return Match(matched=False, label=None, probability=None, voters=voters)
    if not voters:
        return Match(matched=True, label=None, probability=None, voters=0)
    rule = rule_of(space)
    if rule is None:
        return Match(matched=True, label=int(plain_vote(labels)[0]), probability=None, voters=voters)
    elected = rule.elect(labels, distances)
    return Match(matched=True, label=int(elected.labels[0]), probability=float(elected.probabilities[0]), voters=voters)


def probability_of(label: int, neighbours: Sequence[Neighbour], space: Space) -> float | None:
    """The probability of one label; None where the tower's votes were not calibrated."""
    rule = rule_of(space)
    return None if rule is None else float(rule.probability(np.array([label]), *_ballots(neighbours))[0])


def rule_of(space: Space) -> VoteRule | None:
    """The tower's rule; None where it was trained before votes were calibrated."""
    if space.calibration is None:
        return None
    vote = space.calibration["vote"]
    return VoteRule(bandwidth=vote["bandwidth"], prior=vote["prior"], classes=vote["classes"])


def unusually_near(space: Space) -> float | None:
    """The distance within which one of a thousand test images has a training image, the first that was kept."""
    return None if space.calibration is None else float(space.calibration["nearest_distance"][0])


def usual(space: Space) -> float | None:
    """The distance within which nearly all test images have a training image, the last that was kept."""
    return None if space.calibration is None else float(space.calibration["nearest_distance"][-1])


def _ballots(neighbours: Sequence[Neighbour]) -> tuple[Int64, Float64]:
    """(1, k) labels, NO_LABEL where one has none, and (1, k) distances."""
    voting = neighbours[:VOTERS]
    labels = [NO_LABEL if neighbour.label is None else neighbour.label for neighbour in voting]
    return np.array([labels], np.int64), np.array([[neighbour.distance for neighbour in voting]], np.float64)
