"""What a frame says of a vector holds: no bound is above a distance, whatever the space is like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.vectors.frame import LARGE, UNPLACED, Frame
from db.vectors.search import distances_to
from tests.makers import Array

SPACES = ["clusters", "flat", "spread", "lines", "one point", "few points", "far away", "tiny", "huge"]


def space(kind: str, count: int, seed: int) -> Array:
    """Vectors (count, 128) float32 of a kind of space; those of one seed lie in the same one."""
    rng, own = np.random.default_rng(seed), np.random.default_rng((seed, count))
    centres = rng.normal(size=(10, 128))
    classes = own.integers(0, 10, count)
    noise = own.normal(size=(count, 128))
    flat = noise[:, :6] @ rng.normal(size=(6, 128))
    points = {
        "clusters": centres[classes] + 0.05 * noise,
        "flat": centres[classes] + 0.05 * flat,  # as of a contrastive loss: what is left over is next to nothing
        "spread": noise,
        "lines": centres[classes] * own.random((count, 1)),
        "one point": np.broadcast_to(centres[0], (count, 128)),
        "few points": centres[classes],
        "far away": 1e4 * centres[0] + centres[classes] + 0.01 * flat,
        "tiny": 1e-25 * (centres[classes] + 0.05 * noise),
        "huge": 3e16 * (centres[classes] + 0.05 * noise),
    }[kind]
    found: Array = points.astype(np.float32)
    return found


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(SPACES),
    other=st.sampled_from(SPACES),
    sample=st.integers(1, 3000),
    seed=st.integers(0, 50),
    k=st.sampled_from([1, 10, 100]),
)
def test_no_bound_is_above_a_distance(kind: str, other: str, sample: int, seed: int, k: int) -> None:
    """Fitted to one space, asked about another: also a frame that does not fit its tower excludes no neighbour."""
    frame = Frame.fit(space(kind, sample, seed))
    stored, queries = space(other, 1000, seed), space(other, 5, seed + 1)
    cells, small = frame.place(stored)
    placed = cells != UNPLACED
    for query in [*queries, stored[0]]:
        view = frame.view(query)
        if not view.is_usable:
            continue
        distances = distances_to(query, stored)
        farthest = float(np.sort(distances)[k])
        if farthest >= LARGE:
            continue
        near = placed & (distances <= farthest)
        assert set(cells[near]) <= set(view.cells_within(farthest).tolist())
        # As the database does it: everything in float32, in the worst of orders.
        apart = np.sqrt(np.cumsum(np.square(small - view.small.astype(np.float32)), axis=1, dtype=np.float32)[:, -1])
        assert (apart[near] <= view.small_bound(farthest)).all()


def test_the_rest_is_measured_where_it_is_next_to_nothing() -> None:
    """A difference of squares says 0.004 where the vectors leave 0.00001 over: above the distance to a neighbour."""
    vectors = space("far away", 2000, seed=1)
    frame = Frame.fit(vectors)
    moved = vectors.astype(np.float64) - frame.mean
    rest = np.linalg.norm(moved - moved @ frame.directions @ frame.directions.T, axis=1)
    _, small = frame.place(vectors)
    assert small[:, -1] == pytest.approx(rest, rel=1e-6)


def test_a_frame_prunes_a_space_like_its_sample() -> None:
    stored = space("flat", 20_000, seed=1)
    frame = Frame.fit(space("flat", 20_001, seed=1))
    cells, small = frame.place(stored)
    read = compared = 0
    for query in space("flat", 20, seed=1):
        view = frame.view(query)
        farthest = float(np.sort(distances_to(query, stored))[10])
        within = np.isin(cells, view.cells_within(farthest))
        read += int(within.sum())
        compared += int((within & (np.linalg.norm(small - view.small, axis=1) <= view.small_bound(farthest))).sum())
    assert read < 0.1 * 20 * len(stored)
    assert compared < 0.005 * 20 * len(stored)


def test_directions_are_as_many_as_the_variance_needs() -> None:
    assert Frame.fit(space("flat", 5000, seed=1)).directions.shape == (128, 14)
    assert Frame.fit(space("few points", 5000, seed=1)).directions.shape == (128, 9)
    assert Frame.fit(space("one point", 5000, seed=1)).directions.shape == (128, 1)


def test_what_is_too_large_to_be_squared_is_not_placed() -> None:
    frame = Frame.fit(space("flat", 1000, seed=1))
    vectors = space("flat", 3, seed=2)
    vectors[1] = np.finfo(np.float32).max
    cells, small = frame.place(vectors)
    assert (cells == UNPLACED).tolist() == [False, True, False]
    assert np.isfinite(small).all()
    assert not frame.view(vectors[1]).is_usable


def test_a_frame_comes_back_as_it_was_and_damage_is_noticed() -> None:
    frame = Frame.fit(space("flat", 3000, seed=1))
    stored = frame.to_bytes()
    again = Frame.from_bytes(stored)
    for name, array in vars(frame).items():
        assert np.array_equal(array, getattr(again, name)), name
    with pytest.raises(ValueError, match="digest"):
        Frame.from_bytes(stored[:-1] + b"\x01")


def test_the_same_sample_gives_the_same_frame() -> None:
    sample = space("clusters", 3000, seed=1)
    assert Frame.fit(sample).to_bytes() == Frame.fit(sample).to_bytes()


def test_a_distance_does_not_depend_on_what_else_is_compared() -> None:
    vectors = space("spread", 500, seed=1)
    together = distances_to(vectors[0], vectors)
    assert [distances_to(vectors[0], vectors[at : at + 1])[0] for at in range(500)] == together.tolist()


def test_how_well_a_frame_excludes_tells_spaces_apart() -> None:
    flat, spread = (space(kind, 5000, 1) for kind in ("flat", "spread"))
    of_flat, of_spread = (Frame.fit(vectors).pruning(vectors) for vectors in (flat, spread))
    assert of_flat.of == of_spread.of == 5000
    assert of_flat.read < 1500 and 11 <= of_flat.compared < 100
    assert of_spread.read > 4500 and of_spread.compared > 1000
    one = np.ones((1, 128), np.float32)
    assert Frame.fit(one).pruning(one) == (1, 1, 1)
