"""What every request finds. It must not know the screens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from twinvec_client import AsyncTwinvec
from web.rates import Rates
from web.remembered import Remembered

Report = Callable[[int], Awaitable[bytes]]


@dataclass
class Site:
    """What every request finds: the client, who asks in its name, and what was asked
    a moment ago.

    report: makes a tower's report, an HTML page, by the tower's id; None where this machine cannot.
    """

    tv: AsyncTwinvec
    by: str
    report: Report | None = None
    rates: Rates = field(default_factory=Rates)
    counts: Remembered = field(default_factory=lambda: Remembered(seconds=15))  # of all digits, which take long
    lists: Remembered = field(default_factory=lambda: Remembered(seconds=1))  # that every visitor's page asks for
    reports: Remembered = field(default_factory=lambda: Remembered(seconds=3600))  # which take seconds of a processor


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site
