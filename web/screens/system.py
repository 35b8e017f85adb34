"""What the installation does at this moment: lanes, workers, what stands still on purpose, and who asked for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from twinvec_client.contract.states import PausableLane
from web import forms
from web.rendering import render
from web.site import site_of

PAUSABLE = get_args(PausableLane)
ACTIONS = 200


async def show(request: Request) -> Response:
    """The script asks for it again and again."""
    site = site_of(request)
    overview = await site.lists.get("overview", site.tv.overview)
    schedule = await site.counts.get("schedule", site.tv.schedule)
    return render(request, "system.html", part="_system.html", overview=overview, schedule=schedule, pausable=PAUSABLE)


async def pause(request: Request, form: FormData) -> Response:
    """Hold a lane back, at once or once what waits there is done."""
    site, lane, why = site_of(request), _lane(form), forms.text(form, "why") or None
    if forms.text(form, "drain") == "1":
        await site.tv.drain(lane, why=why)
    else:
        await site.tv.pause(lane=lane, why=why)
    return _back(request)


async def resume(request: Request, form: FormData) -> Response:
    await site_of(request).tv.resume(lane=_lane(form))
    return _back(request)


async def actions(request: Request) -> Response:
    return render(request, "actions.html", actions=await site_of(request).tv.actions(limit=ACTIONS))


def _lane(form: FormData) -> PausableLane:
    lane = forms.text(form, "lane")
    if lane not in PAUSABLE:
        raise HTTPException(400, f"lane: one of {', '.join(PAUSABLE)} is wanted.")
    return cast(PausableLane, lane)


def _back(request: Request) -> Response:
    site_of(request).lists.forget("overview")
    return RedirectResponse("/system", 303)


ROUTES: Sequence[Route] = (
    Route("/system", show),
    Route("/system/actions", actions),
    forms.post("/system/pause", pause),
    forms.post("/system/resume", resume),
)
