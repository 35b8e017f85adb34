"""Rows go through a compiled function in buckets that fit, and each comes back with its own result."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.arrays import Float32
from training.model.bucketing import (
    BUCKETS,
    PADDING,
    SUCCESSES_BEFORE_GROWTH,
    BucketedCall,
    bucket_for,
    is_out_of_memory,
)


class ResourceExhaustedError(Exception):
    """TensorFlow's, by its name."""


class OutOfMemoryError(RuntimeError):
    """PyTorch's, by its name."""


ERRORS = (
    MemoryError(),
    ResourceExhaustedError("OOM when allocating tensor with shape[4096,512]"),
    OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4503599627370500 bytes."),
    RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 4503599627370500 bytes."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4503599627370496 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)


class Machine:
    """Doubles rows of one number, as long as they have room."""

    def __init__(self, room: int = BUCKETS[-1]) -> None:
        self.room = room
        self.error: Exception = MemoryError()
        self.seen: list[int] = []  # rows of each call

    def __call__(self, rows: Float32) -> Float32:
        self.seen.append(len(rows))
        if len(rows) > self.room:
            raise self.error
        return 2 * rows


def numbered(count: int) -> Float32:
    """(count, 1), no two alike."""
    return np.arange(1, count + 1, dtype=np.float32)[:, None]


@given(
    st.lists(
        st.tuples(st.integers(0, 9000), st.integers(1, BUCKETS[-1]), st.sampled_from(ERRORS)), min_size=1, max_size=12
    )
)
@settings(deadline=None)
def test_what_memory_there_is_changes_no_result(calls: list[tuple[int, int, Exception]]) -> None:
    machine = Machine()
    call = BucketedCall(machine, 1)
    for count, machine.room, machine.error in calls:
        np.testing.assert_array_equal(call(numbered(count)), 2 * numbered(count))
    assert set(machine.seen) <= set(BUCKETS)


@given(st.integers(1, BUCKETS[-1] - 1))
@settings(deadline=None)
def test_the_largest_bucket_comes_back_when_memory_does(room: int) -> None:
    machine = Machine(room)
    call = BucketedCall(machine, 1)
    call(numbered(2 * BUCKETS[-1]))
    small, machine.seen, machine.room = len(machine.seen), [], BUCKETS[-1]
    while call.limit < BUCKETS[-1]:
        call(numbered(BUCKETS[-1]))
    assert len(machine.seen) <= 2 * small + (SUCCESSES_BEFORE_GROWTH + 2) * len(BUCKETS)  # no longer than it was away


def test_small_calls_do_not_bring_a_large_bucket_back() -> None:
    machine = Machine(1024)
    call = BucketedCall(machine, 1)
    call(numbered(2048))
    for _ in range(2 * SUCCESSES_BEFORE_GROWTH):
        call(numbered(200))
    assert call.limit == 1024


def test_a_bucket_that_never_fits_is_tried_less_and_less_often() -> None:
    machine = Machine(1024)
    BucketedCall(machine, 1)(numbered(1000 * 1024))
    tries = [at for at, size in enumerate(machine.seen) if size == 2048]
    assert len(tries) <= 8
    assert all(later - earlier > 2 * SUCCESSES_BEFORE_GROWTH for earlier, later in pairwise(tries[1:]))


def test_one_row_that_is_too_much_is_an_error() -> None:
    with pytest.raises(MemoryError):
        BucketedCall(Machine(room=0), 1)(numbered(10))


def test_any_other_error_is_raised_at_once() -> None:
    machine = Machine(room=0)
    machine.error = ValueError("shapes do not match")
    with pytest.raises(ValueError, match="do not match"):
        BucketedCall(machine, 1)(numbered(5000))
    assert len(machine.seen) == 1


@given(st.integers(1, 20_000))
def test_little_is_computed_for_nothing(count: int) -> None:
    machine = Machine()
    BucketedCall(machine, 1)(numbered(count))
    assert sum(machine.seen) - count <= max(PADDING, BUCKETS[-1] // 8)
    assert len(machine.seen) <= count // BUCKETS[-1] + len(BUCKETS)


@pytest.mark.parametrize("size", BUCKETS)
def test_a_bucket_is_its_own(size: int) -> None:
    assert bucket_for(size) == size


def test_at_the_large_end_each_bucket_is_half_of_the_next() -> None:
    assert all(2 * small == large for small, large in pairwise(size for size in BUCKETS if size >= 256))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {error}"[:40])
def test_every_backend_s_out_of_memory_error_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [ValueError("shapes"), RuntimeError("CUDA error: an illegal memory access")])
def test_other_errors_are_not_taken_for_out_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
