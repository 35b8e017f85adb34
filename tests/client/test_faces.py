"""The two faces of the client: what one can do the other can, in the same words."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from twinvec_client import AsyncEmbedJob, AsyncTrainingJob, AsyncTwinvec, EmbedJob, TrainingJob, Twinvec

TWINS = [(Twinvec, AsyncTwinvec), (EmbedJob, AsyncEmbedJob), (TrainingJob, AsyncTrainingJob)]
NAMES = {
    "EmbedJob": "AsyncEmbedJob",
    "list[EmbedJob]": "list[AsyncEmbedJob]",
    "TrainingJob": "AsyncTrainingJob",
    "Iterator[JobStatus]": "AsyncGenerator[JobStatus]",
    "Iterator[Failure]": "AsyncIterator[Failure]",
    "Iterator[DoubtfulDigit]": "AsyncIterator[DoubtfulDigit]",
    "Iterator[StoredDigit]": "AsyncIterator[StoredDigit]",
    "Iterator[Judgement]": "AsyncIterator[Judgement]",
    "Iterator[Vectors]": "AsyncIterator[Vectors]",
    "EmbedJob | TrainingJob": "AsyncEmbedJob | AsyncTrainingJob",
}
METHODS = [
    (name, method, getattr(twin, name, None))
    for original, twin in TWINS
    for name, method in inspect.getmembers(original, inspect.isfunction)
    if not name.startswith("_")
]


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("original", "twin"), TWINS)
def test_both_faces_have_the_same_names(original: type, twin: type) -> None:
    assert public(twin) == public(original)


@pytest.mark.parametrize(("name", "method", "twin"), METHODS)
def test_a_method_takes_the_same_arguments_on_both_faces(
    name: str, method: Callable[..., Any], twin: Callable[..., Any]
) -> None:
    assert inspect.signature(twin).parameters == inspect.signature(method).parameters


@pytest.mark.parametrize(("name", "method", "twin"), METHODS)
def test_a_method_returns_the_same_on_both_faces(
    name: str, method: Callable[..., Any], twin: Callable[..., Any]
) -> None:
    returned = inspect.signature(method).return_annotation
    assert inspect.signature(twin).return_annotation == NAMES.get(returned, returned)
    iterates = returned.startswith("Iterator")
    assert inspect.iscoroutinefunction(twin) is not iterates


@pytest.mark.parametrize(("name", "method", "twin"), METHODS)
def test_a_method_is_documented_alike_on_both_faces(
    name: str, method: Callable[..., Any], twin: Callable[..., Any]
) -> None:
    assert (inspect.getdoc(twin) or "").startswith(inspect.getdoc(method) or "undocumented")


@pytest.mark.parametrize(("name", "method", "twin"), METHODS)
def test_a_method_for_asyncio_names_every_argument_it_hands_on(
    name: str, method: Callable[..., Any], twin: Callable[..., Any]
) -> None:
    source = inspect.getsource(twin)
    given = source[source.index(":\n") :]
    for parameter in inspect.signature(method).parameters:
        assert parameter in given, f"{name} takes `{parameter}` and drops it"


def test_a_client_is_made_alike_and_has_the_same_pace() -> None:
    assert inspect.signature(AsyncTwinvec) == inspect.signature(Twinvec)
    for name in ("chunk", "window", "window_bytes", "resend_after", "accept_timeout", "outage", "pause_timeout"):
        assert getattr(AsyncTwinvec, name) == getattr(Twinvec, name)
