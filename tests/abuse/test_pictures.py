"""A picture costs its reader little, or is refused; what an honest scanner sends is read."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.abuse.pictures import dots, drawn, empty_webp, fax, jpeg_of_scans, written
from tests.makers import peak
from training.arrays import Bool
from training.errors import PictureError
from training.pictures.components import STROKE, Box, find_components, hugs, is_frame
from training.pictures.deadline import Budget, deadline, ticking
from training.pictures.read import MAX_SCANS, read_picture
from training.pictures.sandbox import sandbox
from training.pictures.sandbox_process import MEMORY
from training.pictures.transparency import percentile

SECONDS = 3.0  # of the processor; each takes a fraction of one on an idle machine


def cost(picture: bytes) -> tuple[float, str]:
    """Seconds of the processor, and what came of it."""
    start = time.process_time()
    try:
        read_picture(picture)
        came = "read"
    except PictureError as error:
        came = error.reason
    return time.process_time() - start, came


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (fax, {"read"}),
        (dots, {"read", "blank"}),
        (lambda: jpeg_of_scans(60_000, side=64), {"too_costly"}),
        (lambda: jpeg_of_scans(MAX_SCANS), {"read"}),
        (empty_webp, {"blank"}),
    ],
    ids=["fax", "dots", "60,000 scans", "as many scans as are read", "24 million transparent pixels"],
)
def test_a_picture_costs_little(make: Callable[[], bytes], wanted: set[str]) -> None:
    seconds, came = cost(make())
    assert came in wanted
    assert seconds < SECONDS


def test_the_digit_of_a_fax_is_found_and_not_its_specks() -> None:
    clean = read_picture(written(drawn(256, digit="7"), "PNG")).astype(float)
    found = read_picture(fax(digit="7")).astype(float)
    assert np.corrcoef(clean.ravel(), found.ravel())[0, 1] > 0.6


def test_transparency_is_filled_in_half_of_the_memory_that_there_is() -> None:
    process = psutil.Process(sandbox().running().pid)
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # its peak is what it has now
    before = process.memory_info().rss
    (refused,) = sandbox().read([empty_webp()], normalise=True)
    assert isinstance(refused, PictureError)
    assert refused.reason == "blank"
    assert peak(process) - before < 0.6 * MEMORY


def test_what_takes_too_long_is_ended_in_its_middle() -> None:
    picture = jpeg_of_scans(MAX_SCANS, side=4000)
    with pytest.raises(PictureError, match=r"more than 0\.05 s") as refused, deadline(0.05):
        read_picture(picture)
    assert refused.value.reason == "too_costly"


def test_a_deadline_that_something_swallows_comes_again() -> None:
    ended = []

    def swallow() -> None:
        try:
            while True:
                pass
        except BaseException:
            ended.append(1)

    with pytest.raises(PictureError, match="was given up"), deadline(0.05):
        swallow()
        while True:
            pass
    assert ended


def test_a_deadline_that_is_kept_leaves_nothing_behind() -> None:
    with deadline(0.2):
        pass
    start = time.process_time()
    while time.process_time() - start < 0.6:
        pass


def test_of_many_deadlines_by_one_timer_one_that_is_missed_costs_the_next_nothing() -> None:
    with ticking():
        for seconds in (0.05, 0.1):
            with pytest.raises(PictureError, match=f"more than {seconds:g} s"), deadline(seconds):
                while True:
                    pass
            test_a_deadline_that_is_kept_leaves_nothing_behind()


def test_one_costly_picture_uses_up_the_time_of_those_sent_with_it_and_the_rest_is_told() -> None:
    budget = Budget(0.1)
    with pytest.raises(PictureError, match=r"more than 0\.1 s"), budget.spend():
        while True:
            pass
    with pytest.raises(PictureError, match="sent with it"), budget.spend():
        pytest.fail("it was begun")


def test_outside_the_main_thread_there_is_no_deadline() -> None:
    done = []

    def work() -> None:
        with deadline(0.01):
            start = time.thread_time()
            while time.thread_time() - start < 0.1:
                pass
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


@settings(max_examples=200, deadline=None)
@given(counts=st.lists(st.integers(0, 5), min_size=256, max_size=256).filter(any), share=st.floats(0, 1))
def test_percentiles_are_those_of_numpy(counts: list[int], share: float) -> None:
    levels = np.repeat(np.arange(256), counts)
    assert percentile(np.array(counts), share) == pytest.approx(np.percentile(levels, 100 * share), abs=1e-9)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), density=st.floats(0.05, 0.6), frame=st.booleans())
def test_frames_are_those_of_their_definition(seed: int, density: float, frame: bool) -> None:
    dice = np.random.default_rng(seed)
    mask: Bool = dice.random(tuple(dice.integers(8, 48, 2))) < density * dice.random()
    if frame:
        mask[2:-2, 2] = mask[2:-2, -3] = mask[2, 2:-2] = mask[-3, 2:-2] = True
        mask[3 : 3 + mask.shape[0] // 2, mask.shape[1] // 2] = True
    mask[0, 0] = True
    found = find_components(mask)
    labels, components = found.labels, found.largest(len(found.stats))
    height, width = mask.shape
    for component in components:
        box = component.box
        others = [other for other in components if other is not component]
        if (box.width >= 0.95 * width or box.height >= 0.95 * height) and hugs(
            labels, component, Box(0, 0, height, width)
        ):
            wanted = any(other.box.longer >= STROKE * max(height, width) for other in others)
        else:
            inside = [other for other in others if box.holds(other.box)]
            wanted = any(other.box.longer >= STROKE * box.longer for other in inside) and hugs(labels, component, box)
        assert is_frame(component, found) == wanted
