"""Puts the page together: its screens, its guard, and the one client that all requests share.

It must not know how it is served.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from twinvec_client import AsyncTwinvec, TwinvecError
from twinvec_client.asker import asker
from web import errors
from web.guard import Guard, Keys
from web.screens import digits, draw, jobs, judge, sign_in, system, towers
from web.site import Report, Site

STATIC = Path(__file__).parent / "static"


def create_app(
    tv: AsyncTwinvec,
    *,
    token: str | None = None,
    names: Iterable[str] = (),
    by: str | None = None,
    report: Report | None = None,
) -> Starlette:
    """The page as an ASGI application; it closes the client at its end.

    token: that a visitor has to show; None: none is asked for, which is for a loopback address alone. names: by which
    the page may be called in a browser, besides `localhost` and addresses of numbers. by: who is on record for what is
    done here; else the user of this process. report: see `Site`.
    """
    site = Site(tv, by or asker(), report)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await tv.close()

    screens = (draw, digits, judge, jobs, towers, system, sign_in)
    app = Starlette(
        routes=[
            *(route for screen in screens for route in screen.ROUTES),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(Guard, keys=Keys(token, os.urandom(32)), names=frozenset(names))],
        exception_handlers={
            TwinvecError: errors.of_the_client,
            HTTPException: errors.of_the_page,
            Exception: errors.unexpected,
        },
        lifespan=lifespan,
    )
    app.state.site = site
    return app
