"""Pairs side by side: whether two stored digits show the same, said with one key each."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from web import forms
from web.rendering import render, url
from web.site import site_of

PAIRS = 20
SAID = {"same": True, "different": False, "forget": None}


async def show(request: Request) -> Response:
    """The frame; the pairs are looked for afterwards, which takes a moment."""
    return render(request, "judge.html", collection=request.query_params.get("collection") or None)


async def pairs(request: Request) -> Response:
    """The pairs whose judgement tells most."""
    collection = request.query_params.get("collection") or None
    found = await site_of(request).tv.pairs_to_judge(collection=collection, limit=PAIRS)
    return render(request, "pairs.html", part="_pairs.html", pairs=found, collection=collection)


async def say(request: Request, form: FormData) -> Response:
    """Keep what was said of a pair, or take it back."""
    said = forms.required(form, "said")
    if said not in SAID:
        raise HTTPException(400, f"said: one of {', '.join(SAID)} is wanted.")
    site = site_of(request)
    collection = forms.required(form, "collection")
    await site.tv.judge(
        forms.required(form, "key"),
        forms.required(form, "other"),
        same=SAID[said],
        collection=collection,
        other_collection=forms.required(form, "other_collection"),
        by=site.by,
    )
    if request.headers.get("hx-request"):
        return Response(status_code=204)
    return RedirectResponse(url("/judge/pairs", collection=forms.text(form, "of") or None), 303)


ROUTES: Sequence[Route] = (
    Route("/judge", show),
    Route("/judge/pairs", pairs),
    forms.post("/judge", say),
)
