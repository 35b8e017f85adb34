"""What the installation does at this moment: lanes, workers, and what stands still on purpose."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from web.rendering import render
from web.site import site_of


async def show(request: Request) -> Response:
    """The script asks for it again and again."""
    site = site_of(request)
    overview = await site.lists.get("overview", site.tv.overview)
    schedule = await site.counts.get("schedule", site.tv.schedule)
    return render(request, "system.html", part="_system.html", overview=overview, schedule=schedule)


ROUTES: Sequence[Route] = (Route("/system", show),)
