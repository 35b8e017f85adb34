"""The notebook's plots are drawn from a tower and its data, and show what is true of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from training.data.dataset import Dataset
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network
from training.recipes import NOTEBOOK
from training.report import figures, notebook
from training.report.figures import Edge, Pair
from training.report.notebook import NoGraphviz
from training.report.plots import RIGHT, WRONG

HISTORY = {"loss": [0.2, 0.1], "binary_accuracy": [0.8, 0.9]}


@pytest.fixture(scope="module")
def tower() -> Any:
    return folded(build_network(NOTEBOOK, seed=0))


def test_all_plots_of_the_notebook_are_drawn(tower: Any, sample: Dataset, tmp_path: Path) -> None:
    paths = notebook.draw(tower, sample, HISTORY, tmp_path / "new" / "folder", threshold=0.5, seed=0)
    assert [path.stem for path in paths] == ["digits", "pairs", "training", "judged", "check"]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
            assert len(set(picture.convert("L").tobytes())) > 10  # it is not blank


def test_pairs_are_judged_by_their_distance(tower: Any, sample: Dataset) -> None:
    embed = Embedder(tower)
    pairs = notebook.judged_pairs(embed, sample.test_images, sample.test_labels, 5.0, np.random.default_rng(0))
    for pair in pairs:
        one, other = embed(np.stack([pair.one, pair.other]))
        assert pair.distance == pytest.approx(np.linalg.norm(one - other), rel=1e-4, abs=1e-5)
        assert pair.distance is not None
        assert pair.judged_same == (pair.distance < 5.0)
    assert {pair.same for pair in pairs} == {True, False}


def test_two_2s_and_a_5_are_compared(sample: Dataset) -> None:
    images, labels = notebook.two_and_one(sample.test_images, sample.test_labels, np.random.default_rng(1))
    assert labels == [2, 2, 5]
    known = {image.tobytes(): label for image, label in zip(sample.test_images, sample.test_labels, strict=True)}
    assert [known[image.tobytes()] for image in images] == labels


def test_glyphs_without_2s_and_5s_are_compared_all_the_same(sample: Dataset) -> None:
    letters = replace(sample, test_labels=(sample.test_labels % 2 + 7).astype(np.uint8))
    _, labels = notebook.two_and_one(letters.test_images, letters.test_labels, np.random.default_rng(0))
    assert labels == [7, 7, 8]


def test_the_three_distances_are_between_the_three() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    assert [(edge.one, edge.other, round(edge.distance, 4)) for edge in notebook.distances(points)] == [
        (0, 1, 5.0),
        (0, 2, 1.0),
        (1, 2, 4.2426),
    ]


def test_right_is_green_and_wrong_is_red(sample: Dataset, tmp_path: Path) -> None:
    one, other = sample.test_images[:2]
    for judged, colour in ((True, RIGHT), (False, WRONG)):
        path = tmp_path / f"{judged}.png"
        figures.pair_sheet([Pair(one, other, True, judged_same=judged, distance=0.1)], path)
        with Image.open(path) as picture:
            painted = {colour for _, colour in picture.convert("RGB").getcolors(2**20) or []}
        assert tuple(bytes.fromhex(colour[1:])) in painted


def test_a_comparison_shows_each_distance(sample: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "check.svg"
    edges = [Edge(0, 1, 0.0223), Edge(0, 2, 1.1003), Edge(1, 2, 1.0857)]
    figures.comparison(list(sample.test_images[:3]), [2, 2, 5], edges, path)
    assert path.read_text().count("<path") > 3


@pytest.mark.parametrize("pairs", ["drawn", "batch"])
def test_the_architecture_is_drawn_or_what_is_missing_is_said(
    pairs: str, tower: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(keras.utils, "plot_model", lambda model, **_: drawn.append(model))
    assert notebook.draw_architecture(tower, tmp_path / "architecture.png", pairs=pairs).name == "architecture.png"
    assert drawn[0].count_params() == tower.count_params()

    def fail(*_: Any, **__: Any) -> None:
        raise ImportError("You must install pydot")

    monkeypatch.setattr(keras.utils, "plot_model", fail)
    with pytest.raises(NoGraphviz, match="graphviz"):
        notebook.draw_architecture(tower, tmp_path / "architecture.png", pairs=pairs)
