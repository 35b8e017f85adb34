"""Every plot of the notebook, from a tower and the glyphs it was trained on. Importing this loads Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.arrays import Float32, Uint8
from training.backend import keras
from training.data.dataset import Dataset
from training.fit.pairs import draw_pairs
from training.model.all_pairs import build_batch_model
from training.model.embedder import Embedder
from training.model.siamese import build_twins
from training.report import figures, plots
from training.report.figures import Edge, Pair

SHOWN = 10
USUAL = (2, 5)  # the labels that the notebook compares


class NoGraphviz(Exception):
    """The architecture cannot be drawn. Install graphviz (the program) and pydot (for Python)."""


def draw(
    tower: keras.Sequential,
    data: Dataset,
    history: Mapping[str, Sequence[float]],
    folder: Path,
    *,
    threshold: float,
    seed: int,
) -> list[Path]:
    """Draw all but the architecture into a folder, and return the files. seed: decides which pairs are shown."""
    rng = np.random.default_rng(seed)
    embed = Embedder(tower)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in ("digits", "pairs", "training", "judged", "check")]
    digits, pairs_drawn, training, judged, check = paths
    images, labels = data.train_images[:SHOWN], data.train_labels[:SHOWN]
    figures.first_glyphs(list(images), labels.tolist(), digits)
    figures.pair_sheet(some_pairs(data.train_images, data.train_labels, rng), pairs_drawn)
    plots.training_curve(history, training)
    figures.pair_sheet(judged_pairs(embed, data.test_images, data.test_labels, threshold, rng), judged)
    glyphs, named = two_and_one(data.test_images, data.test_labels, rng)
    figures.comparison(glyphs, named, distances(embed(np.stack(glyphs))), check)
    return paths


def draw_architecture(tower: keras.Sequential, path: Path, *, pairs: str) -> Path:
    """Draw the model that makes distances of the tower's embeddings, as Keras does. pairs: of the recipe.

    Raises NoGraphviz.
    """
    model = build_twins(tower) if pairs == "drawn" else build_batch_model(tower)
    try:
        keras.utils.plot_model(model, to_file=path, show_shapes=True, show_layer_names=False, expand_nested=True)
    except ImportError as error:
        raise NoGraphviz("the architecture was not drawn: that needs graphviz and `pip install pydot`") from error
    return path


def some_pairs(images: Uint8, labels: Uint8, rng: np.random.Generator) -> list[Pair]:
    """The first pairs in the random order in which they are drawn."""
    drawn = draw_pairs(labels, rng)
    shown = zip(drawn.one[:SHOWN], drawn.other[:SHOWN], drawn.same[:SHOWN, 0], strict=True)
    return [Pair(images[one], images[other], bool(same)) for one, other, same in shown]


def judged_pairs(
    embed: Embedder, images: Uint8, labels: Uint8, threshold: float, rng: np.random.Generator
) -> list[Pair]:
    """Pairs with their distance, and whether the tower judges them to be the same."""
    pairs = some_pairs(images, labels, rng)
    one, other = (embed(np.stack(side)) for side in zip(*((pair.one, pair.other) for pair in pairs), strict=True))
    measured = np.linalg.norm(one - other, axis=1)
    return [
        Pair(pair.one, pair.other, pair.same, judged_same=bool(distance < threshold), distance=float(distance))
        for pair, distance in zip(pairs, measured, strict=True)
    ]


def two_and_one(images: Uint8, labels: Uint8, rng: np.random.Generator) -> tuple[list[Uint8], list[int]]:
    """Two glyphs of one class and one of another, and their labels: 2, 2 and 5 if the data have them."""
    known = np.unique(labels).tolist()
    twice, once = USUAL if set(USUAL) <= set(known) else known[:2]
    chosen = [rng.choice(np.flatnonzero(labels == label)) for label in (twice, twice, once)]
    return [images[place] for place in chosen], [twice, twice, once]


def distances(vectors: Float32) -> list[Edge]:
    """(3, 128) -> the three distances."""
    return [Edge(a, b, float(np.linalg.norm(vectors[a] - vectors[b]))) for a, b in ((0, 1), (0, 2), (1, 2))]
