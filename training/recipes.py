"""Recipes: how a tower is trained, as data. Nothing here computes, so that a process can name one without Keras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Warp:
    """How far training images are distorted at most, evenly either way. `group` images share one distortion."""

    rotation: float  # degrees
    stretch: float  # natural logarithm of the factor
    shear: float  # pixels a pixel
    shift: float  # pixels
    stroke: float = 0.0  # pixels on every side of a stroke, thicker or thinner, at most 1
    elastic: float = 0.0  # pixels; standard deviation of a random displacement of each pixel
    smoothness: float = 4.0  # pixels; standard deviation of the Gaussian that blurs the displacement
    group: int = 25
    fade: float = 0.0  # the share of the epochs, the last ones, over which the distortion weakens
    rest: float = 1.0  # the share of it that is left then


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one training does.

    pairs: `drawn` once, as the notebook does: for every image one partner that shows the same digit and one that shows
    another; or `batch`: all pairs inside each batch of images.
    """

    name: str
    tower: Literal["dense", "conv"] = "dense"
    pairs: Literal["drawn", "batch"]
    epochs: int
    batch_size: int  # pairs if they are drawn, else images
    learning_rate: float
    cosine: bool = False  # whether the learning rate falls to 0 by half a cosine
    margin: float  # of the contrastive loss
    threshold: float  # the distance that splits same from different while pair accuracy is counted in training
    slack: float = 0.0  # same pairs nearer than this are not pulled; only where `pairs` is `batch`
    hardness: float = 0.0  # 0: the push is a mean over all different pairs, 1: over those inside the margin
    scale: float = 1.0  # factor of the embeddings while training; folded into the last layer afterwards
    normalised: bool = False  # whether batches are normalised in training; folded as well
    warp: Warp | None = None


NOTEBOOK = Recipe(
    name="notebook", pairs="drawn", epochs=5, batch_size=32, learning_rate=1e-3, margin=1.0, threshold=0.5
)

QUICK = Recipe(
    name="quick",
    pairs="batch",
    epochs=3,
    batch_size=250,
    learning_rate=4e-3,
    cosine=True,
    margin=0.65,
    slack=0.2,
    threshold=0.5,
    hardness=0.5,
    scale=0.05,
    normalised=True,
)

DEFAULT = Recipe(
    name="default",
    pairs="batch",
    epochs=30,
    batch_size=200,
    learning_rate=3e-3,
    cosine=True,
    margin=0.6,
    slack=0.2,
    threshold=0.5,
    hardness=0.5,
    scale=0.02,
    normalised=True,
    warp=Warp(rotation=8, stretch=0.08, shear=0.1, shift=1.2, elastic=0.5, fade=0.3, rest=0.4),
)

CONV = replace(DEFAULT, name="conv", tower="conv", epochs=20)

BEST = replace(
    DEFAULT,
    name="best",
    epochs=100,
    warp=Warp(rotation=8, stretch=0.2, shear=0.1, shift=1.2, stroke=0.6, elastic=0.5, fade=0.3, rest=0.4),
)

RECIPES = {recipe.name: recipe for recipe in (NOTEBOOK, QUICK, DEFAULT, CONV, BEST)}
