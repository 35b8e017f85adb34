"""Draw a digit, or drop pictures, and see what the tower sees, what is near, and what that says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from twinvec_client import Answer, Neighbour, PictureRefused
from twinvec_client.contract.limits import MAX_LABEL
from web import forms
from web.errors import explain
from web.rendering import render
from web.site import site_of

COUNTS = (5, 10, 20, 50)  # neighbours that one can ask for
WIDTH = 640  # units of the scale's drawing


@dataclass(frozen=True)
class Mark:
    """A neighbour on the scale. x: units from its left end."""

    x: float
    neighbour: Neighbour


@dataclass(frozen=True)
class Scale:
    """Distances as places on a line from 0. threshold, usual: where these stand; None where there are none."""

    marks: list[Mark]
    threshold: float | None
    usual: float | None
    end: float


@dataclass(frozen=True)
class Looked:
    """What came of one picture: an answer with its scale, or why there is none, and what to do then."""

    name: str
    answer: Answer | None
    scale: Scale | None
    refused: str = ""
    next: str = ""


async def show(request: Request) -> Response:
    return render(request, "draw.html", counts=COUNTS, most=forms.MOST_PICTURES)


async def collections(request: Request) -> Response:
    """The names to choose from: counting them may take long, and the canvas does not wait for it."""
    site = site_of(request)
    found = await site.counts.get("collections", site.tv.collections)
    return render(request, "_collections.html", collections=found)


async def look(request: Request, form: FormData) -> Response:
    """Look up what was drawn, or each of the pictures that were sent."""
    k = forms.integer(forms.text(form, "k") or str(COUNTS[0]), "k", 1, COUNTS[-1])
    label = forms.text(form, "label")
    wanted = Wanted(
        k=k,
        collection=forms.text(form, "collection") or None,
        label=forms.integer(label, "label", 0, MAX_LABEL - 1) if label else None,
        max_distance=forms.decimal(forms.text(form, "within"), "within"),
    )
    sent = await forms.pictures(form, "picture")
    looked = await asyncio.gather(*(look_up(request, name, picture, wanted) for name, picture in sent))
    return render(request, "looked.html", part="_looked.html", looked=looked)


@dataclass(frozen=True)
class Wanted:
    k: int
    collection: str | None
    label: int | None
    max_distance: float | None


async def look_up(request: Request, name: str, picture: bytes, wanted: Wanted) -> Looked:
    """A picture that cannot be read costs only itself."""
    try:
        answer = await site_of(request).tv.nearest(
            picture,
            k=wanted.k,
            collection=wanted.collection,
            label=wanted.label,
            max_distance=wanted.max_distance,
            match=True,
            pictures=True,
        )
    except PictureRefused as error:
        said, next = explain(str(error))
        return Looked(name, None, None, said, next)
    return Looked(name, answer, scale_of(answer))


def scale_of(answer: Answer) -> Scale:
    """From 0 to the farthest neighbour, or a little past the threshold, whichever is farther."""
    distances = [each.distance for each in answer]
    end = max([*distances, (answer.threshold or 0) * 1.15, (answer.usual or 0) * 1.15]) or 1.0

    def place(distance: float | None) -> float | None:
        return None if distance is None else round(WIDTH * distance / end, 1)

    marks = [Mark(place(each.distance) or 0.0, each) for each in answer]
    return Scale(marks, place(answer.threshold), place(answer.usual), end)


ROUTES: Sequence[Route] = (
    Route("/", show),
    Route("/collections", collections),
    forms.post("/look", look),
)
