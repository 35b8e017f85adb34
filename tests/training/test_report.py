"""A report: what it shows is true of the tower, and the page asks for nothing and takes no text for markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from training.data.dataset import Dataset
from training.fit.evaluation import judge_pairs
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network
from training.recipes import CONV, NOTEBOOK
from training.report import charts
from training.report.facts import Report
from training.report.measuring import distances, histogram, judged_pairs, layers_of, measure
from training.report.page import page


@pytest.fixture(scope="module")
def tower() -> Any:
    return folded(build_network(NOTEBOOK, seed=0))


def test_pairs_have_their_distance(tower: Any, sample: Dataset) -> None:
    embed = Embedder(tower)
    pairs = judged_pairs(embed, sample.test_images, sample.test_labels, np.random.default_rng(0))
    for pair in pairs:
        one, other = embed(np.stack([pair.one, pair.other]))
        assert pair.distance == pytest.approx(np.linalg.norm(one - other), rel=1e-4, abs=1e-5)
    assert {pair.same for pair in pairs} == {True, False}


def test_what_is_measured_is_of_the_digits(tower: Any, sample: Dataset) -> None:
    found = measure(tower, sample, threshold=5.0, seed=1)
    assert found.comparison.labels == [2, 2, 5]
    known = {image.tobytes(): int(label) for image, label in zip(sample.test_images, sample.test_labels, strict=True)}
    assert [known[glyph.tobytes()] for glyph in found.comparison.glyphs] == [2, 2, 5]
    assert sum(found.histogram.same) == pytest.approx(1)
    assert sum(found.histogram.different) == pytest.approx(1)
    vectors = Embedder(tower)(sample.test_images)
    assert found.right == judge_pairs(vectors, sample.test_labels).accuracy(5.0)
    assert found.plane.places.shape == (len(sample.test_images), 2)
    assert 0 < sum(found.plane.explained) <= 1
    gallery = Embedder(tower)(sample.train_images)
    for shown in found.gallery:
        at = next(at for at, image in enumerate(sample.test_images) if (image == shown.glyph).all())
        every = np.linalg.norm(gallery - vectors[at], axis=1)
        assert [near.distance for near in shown.neighbours] == pytest.approx(np.sort(every)[:5].tolist(), rel=1e-3)


def test_digits_without_2s_and_5s_are_compared_all_the_same(tower: Any, sample: Dataset) -> None:
    others = replace(sample, test_labels=(sample.test_labels % 2 + 7).astype(np.uint8))
    assert measure(tower, others, threshold=1.0, seed=0).comparison.labels == [7, 7, 8]


def test_the_three_distances_are_between_the_three() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    assert [(edge.one, edge.other, round(edge.distance, 4)) for edge in distances(points)] == [
        (0, 1, 5.0),
        (0, 2, 1.0),
        (1, 2, 4.2426),
    ]


def test_far_distances_are_in_the_last_column() -> None:
    vectors = np.array([[0.0], [0.1], [50.0], [50.1]], np.float32)
    found = histogram(judge_pairs(vectors, np.array([0, 0, 1, 1])), 0.5)
    assert (found.different[:-1].sum(), found.different[-1]) == (0, pytest.approx(1))


def test_layers_are_told_with_what_they_make() -> None:
    layers = layers_of(folded(build_network(NOTEBOOK, seed=0)))
    assert [(layer.kind, layer.shape, layer.weights) for layer in layers] == [
        ("Dense, relu", (512,), 784 * 512 + 512),
        ("Dense, relu", (256,), 512 * 256 + 256),
        ("Dense", (128,), 256 * 128 + 128),
    ]
    drawn = charts.architecture(layers_of(folded(build_network(CONV, seed=0))), pixels=784, drawn=False, title="")
    assert all(word in drawn for word in ("Conv2D, relu", "12×12×32", "Reshape", "a batch of images"))


def test_right_is_green_and_wrong_is_red(report: Report) -> None:
    (tower, *_), text = report.towers, page(report)
    assert tower.measured is not None
    right = [(pair.distance or 0) < tower.threshold for pair in tower.measured.judged]
    expected = [said == pair.same for said, pair in zip(right, tower.measured.judged, strict=True)]
    shown = re.findall(r"class='title (right|wrong)'", text)[: len(expected)]
    assert [each == "right" for each in shown] == expected
    far = page(replace(report, towers=[replace(tower, threshold=1e9)]))
    assert re.findall(r"class='title (right|wrong)'>(same|different)", far).count(("right", "different")) == 0


def test_the_page_asks_for_nothing(report: Report) -> None:
    """Every picture is inside it, there is no script, and a browser is told to load nothing."""
    asked: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in {"script", "link", "iframe", "object", "embed"}
            asked.extend(value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"})

    text = page(report)
    Reader().feed(text)
    assert asked
    assert all(each.startswith("data:image/png;base64,") for each in asked)
    assert "default-src 'none'" in text
    assert not re.findall(r"https?://|url\(|@import", text)


def test_text_of_users_is_no_markup(report: Report) -> None:
    evil = "<img src=x onerror=alert(1)>"
    reasons = [{"name": evil, "live": 1.0, "candidate": 0.5, "tolerance": None, "passed": False, "said": evil}]
    verdict = {"passed": False, "reasons": reasons, "forced_by": evil}
    tower = replace(report.towers[0], name=evil, about={evil: evil}, verdict=verdict)
    assert report.digits is not None
    text = page(replace(report, towers=[tower], digits=replace(report.digits, source=evil), left_out=[evil]))
    assert "<img src=x" not in text
    assert "live 1, candidate 0.5" in text


def test_what_is_not_known_is_left_out_and_said(report: Report) -> None:
    tower = replace(report.towers[0], measured=None, layers=None, history={}, metrics={}, verdict=None)
    text = page(replace(report, towers=[tower], digits=None, left_out=["its file is pruned"]))
    for title in ("Architecture", "Verdict", "Judged pairs", "The first digits", "Confusion", "Loss"):
        assert f"<h2>{title}" not in text
    assert "its file is pruned" in text
    beside = page(replace(report, towers=[report.towers[0], tower]))
    assert beside.count("not known of this tower") >= 5
