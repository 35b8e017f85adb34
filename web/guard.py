"""Stands before every screen: who may come in, where a request was sent from, and what browsers may do with answers.

It must not know what is shown.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "twinvec"
STAY = 12 * 3600  # seconds that a visitor stays signed in
MOST_BYTES = 16 * 2**20  # of a request's body
SIGN_IN, STATIC = "/sign-in", "/static/"  # all that is shown before the token is
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_SAFE = ("GET", "HEAD")


class TooLarge(Exception):
    """The body of a request is larger than is taken."""


@dataclass(frozen=True)
class Session:
    """A visitor, by a random id. signed_in: whether the token was shown. ends: seconds since 1970."""

    id: str
    signed_in: bool
    ends: int

    @classmethod
    def new(cls, *, signed_in: bool) -> Session:
        return cls(secrets.token_urlsafe(18), signed_in, int(time.time()) + STAY)


class Keys:
    """Signs cookies and forms, and knows the token. secret: of this process, where there is no token to sign by."""

    def __init__(self, token: str | None, secret: bytes) -> None:
        self.token = token
        self._key = hmac.digest(token.encode() if token else secret, b"twinvec web", "sha256")

    def is_token(self, shown: str) -> bool:
        """In a time that does not tell how much of it is right."""
        return self.token is not None and hmac.compare_digest(shown.encode(), self.token.encode())

    def write(self, session: Session) -> str:
        """As a cookie holds it."""
        said = f"{session.id}.{session.ends}.{int(session.signed_in)}"
        return f"{said}.{self._sign(f'cookie {said}')}"

    def read(self, cookie: str) -> Session | None:
        """None where it was not written here, or has ended."""
        said, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(f"cookie {said}").encode()):
            return None
        id, ends, signed_in = said.split(".")
        return Session(id, signed_in == "1", int(ends)) if int(ends) > time.time() else None

    def csrf_token(self, session: Session) -> str:
        """What a form of this visitor's carries, and no other page can know."""
        return self._sign(f"form {session.id}")

    def is_csrf_token(self, session: Session, shown: str) -> bool:
        return hmac.compare_digest(shown.encode(), self.csrf_token(session).encode())

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()


class Guard:
    """Refuses what does not come from a page of its own, wants the token, and limits what is sent and shown.

    A request that changes something must come from the page itself by what the browser says of its origin, and carry
    a CSRF token as well, which `web.forms` checks.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, names: frozenset[str]) -> None:
        self.app, self.keys, self.names = app, keys, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        session = self._session(request)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["keys"], state["session"] = self.keys, session or Session.new(signed_in=False)
        state["needs_token"] = self.keys.token is not None
        refused = self._refusal(request, session)
        if refused is not None:
            await refused(scope, receive, _headed(send, []))
            return
        added = [] if session is not None else [self.cookie(request, state["session"])]
        try:
            await self.app(scope, _limited(receive), _headed(send, added, keep=request.url.path.startswith(STATIC)))
        except TooLarge:
            await _too_large()(scope, receive, _headed(send, []))

    def cookie(self, request: Request, session: Session) -> str:
        """The header that gives a visitor a session."""
        return cookie_of(request, self.keys, session)

    def _session(self, request: Request) -> Session | None:
        try:
            kept = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        return None if kept is None else self.keys.read(kept.value)

    def _refusal(self, request: Request, session: Session | None) -> Response | None:
        if not is_called_right(request.headers.get("host", ""), self.names):
            return _said("The page does not go by this name. Start `twinvec web` with --name NAME to let it.", 421)
        if request.method not in _SAFE and not _is_from_here(request.headers):
            return _said("This request was not sent by a page of this site.", 403)
        if int(_digits(request.headers.get("content-length", "0"))) > MOST_BYTES:
            return _too_large()
        path = request.url.path
        if self.keys.token is None or path == SIGN_IN or path.startswith(STATIC):
            return None
        if session is not None and session.signed_in:
            return None
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"hx-redirect": SIGN_IN})
        return RedirectResponse(SIGN_IN, 303) if request.method in _SAFE else _said("Sign in first.", 401)


def cookie_of(request: Request, keys: Keys, session: Session) -> str:
    """A session as the value of `set-cookie`. Scripts do not see it, and requests from other sites do not carry it."""
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{COOKIE}={keys.write(session)}; Path=/; Max-Age={STAY}; HttpOnly; SameSite=Strict{secure}"


def is_called_right(host: str, names: frozenset[str]) -> bool:
    """Whether a `Host` is a name of the page's, or numbers: a name that another site owns may lead here as well."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name in names
    return True


def _is_from_here(headers: Headers) -> bool:
    """Whether a browser says that one of our own pages sent it."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] == headers.get("host")
    return headers.get("sec-fetch-site") == "same-origin"


def _limited(receive: Receive) -> Receive:
    """Reads no more of a body than is taken, whatever its length was said to be."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise TooLarge
        return message

    return limited


def _headed(send: Send, cookies: list[str], *, keep: bool = False) -> Send:
    """Adds to each answer what browsers are told of it; an answer's own word goes first. keep: what is no secret."""

    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-cache" if keep else "no-store")  # the first asks whether it changed
            if "set-cookie" not in headers:
                for cookie in cookies:
                    headers.append("set-cookie", cookie)
        await send(message)

    return headed


def _said(sentence: str, status: int) -> Response:
    return PlainTextResponse(f"{sentence}\n", status)


def _too_large() -> Response:
    return _said(f"That is more than {MOST_BYTES // 2**20} MiB: send less at a time.", 413)


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdigit() else "0"
