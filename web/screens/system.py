"""What the installation does at this moment: lanes, workers, and what stands still on purpose."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from web.rendering import render
from web.site import site_of


async def show(request: Request) -> Response:
    site = site_of(request)
    return render(request, "system.html", schedule=await site.tv.schedule())


ROUTES: Sequence[Route] = (Route("/system", show),)
