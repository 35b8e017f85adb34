"""Where the token is shown, and a session begins or ends."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from web import forms
from web.guard import SIGN_IN, Session, cookie_of
from web.rendering import render


async def show(request: Request) -> Response:
    if request.state.session.signed_in or not request.state.needs_token:
        return RedirectResponse("/", 303)
    return render(request, "sign_in.html", wrong=False)


async def sign_in(request: Request, form: FormData) -> Response:
    """The session is another one than before: what knew that one has not signed in."""
    if not request.state.keys.is_token(forms.text(form, "token")):
        return render(request, "sign_in.html", status=403, wrong=True)
    return _begun(request, Session.new(signed_in=True), "/")


async def sign_out(request: Request, form: FormData) -> Response:
    return _begun(request, Session.new(signed_in=False), SIGN_IN)


def _begun(request: Request, session: Session, to: str) -> Response:
    cookie = cookie_of(request, request.state.keys, session)
    return RedirectResponse(to, 303, headers={"set-cookie": cookie})


ROUTES: Sequence[Route] = (
    Route(SIGN_IN, show),
    forms.post(SIGN_IN, sign_in),
    forms.post("/sign-out", sign_out),
)
