"""What goes wrong, as a page or a part of one that says what to do next. It must not know which screen asked."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from twinvec_client import errors as client
from web.remedies import remedy
from web.rendering import render

log = logging.getLogger(__name__)


class Advice(NamedTuple):
    status: int
    title: str
    next: str


_ADVICE: dict[type[client.TwinvecError], Advice] = {
    client.BrokerUnavailable: Advice(
        503, "The broker cannot be reached", "Start it with `twinvec up`, or set its URL."
    ),
    client.NoAnswer: Advice(504, "No worker answered", "Start workers with `twinvec up`, or look at `twinvec doctor`."),
    client.DatabaseUnavailable: Advice(
        503, "The database cannot be reached", "What was accepted is kept. Try again in a moment."
    ),
    client.NoTower: Advice(409, "No tower is live yet", "Train one with `twinvec train`, then come back."),
    client.PictureRefused: Advice(422, "This picture cannot be read", ""),
    client.InvalidRequest: Advice(400, "This was not understood", ""),
    client.UnknownJob: Advice(404, "No such job", "It may have been deleted after its time."),
    client.UnknownKey: Advice(404, "No such digit", "It may have been deleted meanwhile."),
    client.UnknownTower: Advice(404, "No such tower", ""),
    client.UnknownBatch: Advice(404, "No such dead batch", "It may have been queued again already."),
    client.OtherInstallation: Advice(409, "Another installation answers there", "Start the page again."),
    client.WorkerError: Advice(502, "A worker failed", "Its log has the details."),
}
_OTHERWISE = Advice(409, "That cannot be done", "")
_TITLES = {401: "Sign in first", 403: "Not from this page", 404: "There is nothing here", 405: "Not in this way"}


def explain(refused: str) -> tuple[str, str]:
    """What a refused picture is told, "reason: sentence", and its remedy."""
    reason, _, sentence = refused.partition(": ")
    return (sentence, remedy(reason)) if sentence else (refused, "")


def of_the_client(request: Request, error: Exception) -> Response:
    """A refusal or a failure of Twinvec."""
    kinds = (_ADVICE[kind] for kind in type(error).__mro__ if kind in _ADVICE)
    advice = next(kinds, _OTHERWISE)
    return _shown(request, advice, str(error))


def of_the_page(request: Request, error: Exception) -> Response:
    """A request that is no screen's, or is wrong by its form."""
    assert isinstance(error, HTTPException), error
    title = _TITLES.get(error.status_code, "This was not understood")
    return _shown(request, Advice(error.status_code, title, ""), error.detail)


def unexpected(request: Request, error: Exception) -> Response:
    """Whatever else; the log has its traceback, and a visitor none of it."""
    log.error("could not answer %s %s", request.method, request.url.path, exc_info=error)
    return _shown(request, Advice(500, "The page failed", "Its log has the details."), "")


def _shown(request: Request, advice: Advice, said: str) -> Response:
    context: dict[str, Any] = {"title": advice.title, "said": said, "next": advice.next}
    return render(request, "error.html", part="_error.html", status=advice.status, **context)
