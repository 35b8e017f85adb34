"""What the distances of a tower mean: the table of docs/distances.md, each figure on images that chose none of it.

    python -m benchmarks.distances [--write] [RECIPE ...]
    python -m benchmarks.distances --tower quick=quick.keras

Trains a tower of each recipe (seed 0), or takes those of files, and asks for the neighbours, among MNIST's training
digits, of its test digits and of pictures that are no digits: inverted ones, and random pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.pages import DOCS, Row, publish, table
from training.arrays import AnyArray, Float32, Uint8
from training.data import mnist
from training.data.dataset import Dataset
from training.fit.calibration import Calibration, calibrate, distances, halves
from training.fit.evaluation import neighbours
from training.fit.train import train
from training.fit.vote import VOTERS
from training.model.embedder import Embedder
from training.model.storage import load
from training.recipes import RECIPES

STRANGERS = 1000  # pictures of each kind that is no digit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="quick and default, if none is named")
    parser.add_argument("--tower", action="append", default=[], metavar="NAME=FILE", help="a .keras file instead")
    parser.add_argument("--write", action="store_true", help="put the table on the page")
    arguments = parser.parse_args()
    data = mnist.load()
    embedders = {name: Embedder(load(Path(file).read_bytes())) for name, _, file in map(_split, arguments.tower)}
    for name in arguments.recipes or ([] if embedders else ["quick", "default"]):
        embedders[name] = Embedder(train(RECIPES[name], data, seed=0).tower)
    columns = [column(embed, data) for embed in embedders.values()]
    rows: list[Row] = [[name, *(each[name] for each in columns)] for name in columns[0]]
    publish("distances", table(["", *embedders], rows), write=arguments.write, to=DOCS / "distances.md")


def column(embed: Embedder, data: Dataset) -> dict[str, str]:
    """What is measured of one tower, by the name of its row."""
    gallery, queries = embed(data.train_images), embed(data.test_images)
    near = neighbours(gallery, queries, VOTERS)
    found = calibrate(gallery, data.train_labels, queries, data.test_labels, near=near)
    assert found is not None, "MNIST has many images of each class"
    _, second = halves(data.test_labels)
    right = distances(gallery, queries[second], near[second])[:, 0]
    return pairs(found) | votes(found) | refused(found, right, strangers(embed, gallery, data.test_images))


def pairs(found: Calibration) -> dict[str, str]:
    rows = {"threshold: pairs judged rightly": f"{found.threshold:.3f}: {found.accuracy:.4f}"}
    for level in found.false_accepts:
        assert level.distance is not None, "MNIST has pairs enough"
        rows[f"false accepts {level.rate:.1%}: measured, same pairs rejected"] = (
            f"{level.distance:.3f}: {level.false_accept:.2%}, {level.false_reject:.2%}"
        )
    return rows


def votes(found: Calibration) -> dict[str, str]:
    vote = found.vote
    return {
        "vote of 10: right": f"{vote.accuracy:.4f}",
        "its mean probability less that": f"{mean_probability(found) - vote.accuracy:+.4f}",
        "its expected calibration error": f"{vote.error:.4f}",
        "the same, among 5,001 images unseen in training": f"{vote.error_unseen:.4f}",
    }


def mean_probability(found: Calibration) -> float:
    bins = found.vote.reliability
    return float(np.average(bins.probability, weights=bins.count))


def strangers(embed: Embedder, gallery: Float32, images: Uint8) -> dict[str, AnyArray]:
    """Kind -> (n,) distances to the nearest, of pictures that show no digit."""
    noise = np.random.default_rng(0).integers(0, 256, (STRANGERS, 28, 28), np.uint8)
    kinds = {"inverted digits": 255 - images[:STRANGERS], "random pixels": noise}
    vectors = {name: embed(glyphs) for name, glyphs in kinds.items()}
    return {name: distances(gallery, some, neighbours(gallery, some, 1))[:, 0] for name, some in vectors.items()}


def refused(found: Calibration, digits: AnyArray, others: dict[str, AnyArray]) -> dict[str, str]:
    """How often the nearest is beyond each distance, so that nothing matches."""
    (_, rare), rows = found.false_accepts, {}
    assert rare.distance is not None, "MNIST has pairs enough"
    beyond = {
        "the threshold": found.threshold,
        "0.1% false accepts": rare.distance,
        "the nearest of 99.0% of images": found.nearest_distance[-1],
    }
    for name, distance in beyond.items():
        shares = [f"{np.mean(each > distance):.1%}" for each in (digits, *others.values())]
        rows[f"no match beyond {name}: digits, {', '.join(others)}"] = f"{distance:.3f}: {', '.join(shares)}"
    return rows


def _split(word: str) -> tuple[str, str, str]:
    return word.partition("=")


if __name__ == "__main__":
    main()
