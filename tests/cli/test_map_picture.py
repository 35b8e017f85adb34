"""The map of vectors as a picture: every point where it belongs, in its label's colour."""

import numpy as np
import pytest

from cli.display.map_picture import HEIGHT, WIDTH, draw
from twinvec_client import Map, MapPoint

PAPER = (255, 255, 255)


def drawn(*points: tuple[int | None, float, float], stored: int | None = None) -> np.ndarray:
    """(h, w, 3) uint8 of the part without legend and title."""
    found = Map("ab" * 32, stored or len(points), (0.5, 0.25), [MapPoint("k", "c", *point) for point in points])
    picture = draw(found, "all collections")
    assert picture.size == (WIDTH, HEIGHT)
    return np.asarray(picture)[90:, : WIDTH - 140]


def coloured(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is neither paper nor grey nor black."""
    spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
    rows, columns = (spread > 40).nonzero()
    return rows, columns


def test_points_lie_as_they_do_on_the_plane() -> None:
    """Ten at the left below, one far at the right above: their names do not hide that."""
    left = coloured(drawn(*((0, 0.01 * at, 0.0) for at in range(10)), (1, 9.0, 5.0)))
    assert left[1].min() < 200
    assert left[1].max() > 800
    assert left[0][left[1] < 300].min() > left[0][left[1] > 800].max()  # y grows upwards


def test_the_scale_is_the_same_both_ways() -> None:
    rows, columns = coloured(drawn(*((0, x, y) for x in (0.0, 1.0) for y in (0.0, 1.0))))
    assert rows.max() - rows.min() == pytest.approx(columns.max() - columns.min(), abs=3)


def test_a_point_without_a_label_is_grey_and_has_no_name() -> None:
    picture = drawn((None, 0.0, 0.0), (None, 1.0, 1.0))
    assert not len(coloured(picture)[0])
    assert (picture != PAPER).any()


def test_labels_have_colours_of_their_own() -> None:
    seen = set()
    for label in (*range(12), 1234567):
        picture = drawn((label, 0.0, 0.0), *((None, x, x) for x in (-1.0, 1.0)))
        colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        ink = [tuple(colour) for colour, count in zip(colours.tolist(), counts, strict=True) if count > 5]
        seen.add(frozenset(ink) - {PAPER, (170, 170, 170), (40, 40, 40)})
    assert len(seen) == 13


@pytest.mark.parametrize("count", [1, 2, 5000])
def test_few_and_many_points_are_drawn(count: int) -> None:
    rng = np.random.default_rng(0)
    assert (drawn(*((int(at % 10), *rng.normal(size=2)) for at in range(count)), stored=9999) != PAPER).any()


def test_points_that_lie_on_one_spot_are_drawn_in_the_middle() -> None:
    picture = drawn((None, 3.0, 3.0), (None, 3.0, 3.0))
    rows, columns = (picture != PAPER).any(axis=2).nonzero()
    assert (rows.mean() + 90, columns.mean()) == pytest.approx(
        (40 + 90 + (HEIGHT - 170) / 2, 40 + (WIDTH - 210) / 2), abs=3
    )
