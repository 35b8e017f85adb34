"""What is stored: its collections, their digits as pictures, and one digit; labels are given here, with one key."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from twinvec_client import NotEmbedded, NoTower, TowerNotLive
from twinvec_client.contract.limits import MAX_BATCH, MAX_LABEL
from web import forms
from web.rendering import render, url
from web.screens.draw import scale_of
from web.site import site_of

A_PAGE = 120  # digits
NEIGHBOURS = 12


async def collections(request: Request) -> Response:
    site = site_of(request)
    found = await site.counts.get("collections", site.tv.collections)
    return render(request, "collections.html", collections=found)


async def browse(request: Request) -> Response:
    """A page of a collection's digits, of one label or of all."""
    query = request.query_params
    collection, label = query.get("collection") or None, query.get("label") or None
    wanted = None if label is None else forms.integer(label, "label", 0, MAX_LABEL - 1)
    after = forms.integer(query.get("after", "0"), "after", 0, MAX_BATCH)
    tv = site_of(request).tv
    page = await tv.digits_page(collection=collection, label=wanted, after=after, limit=A_PAGE, pictures=True)
    while not page.digits and page.after is not None:  # a page may be empty and not the last
        page = await tv.digits_page(collection=collection, label=wanted, after=page.after, limit=A_PAGE, pictures=True)
    return render(request, "browse.html", collection=collection, label=wanted, page=page, first=not after)


async def one(request: Request) -> Response:
    """A digit with all that is known of it, and its neighbours."""
    tv = site_of(request).tv
    key, collection = request.query_params.get("key", ""), request.query_params.get("collection", "default")
    digit = await tv.get(key, collection=collection)
    try:
        answer, why = await tv.nearest(key=key, collection=None, k=NEIGHBOURS, pictures=True), ""
    except (NotEmbedded, NoTower, TowerNotLive) as error:
        answer, why = None, str(error)
    scale = None if answer is None else scale_of(answer)
    return render(request, "digit.html", digit=digit, answer=answer, scale=scale, why=why)


async def label(request: Request, form: FormData) -> Response:
    """Give a digit another label, or none; where a script asked, its tile is answered."""
    site = site_of(request)
    key, collection = forms.required(form, "key"), forms.required(form, "collection")
    given = forms.text(form, "label")
    value = None if given == "" else forms.integer(given, "label", 0, MAX_LABEL - 1)
    if await site.tv.label({key: value}, collection=collection):
        raise HTTPException(404, "This digit is not stored any more.")
    site.counts.forget("collections")
    if request.headers.get("hx-request"):
        return render(request, "_tile.html", digit=await site.tv.get(key, collection=collection))
    return RedirectResponse(url("/digit", collection=collection, key=key), 303)


ROUTES: Sequence[Route] = (
    Route("/digits", collections),
    Route("/digits/in", browse),
    Route("/digit", one),
    forms.post("/digits/label", label),
)
