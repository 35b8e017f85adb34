"""What a form sends, read within limits and only with its CSRF token. Every request that changes something comes in
here.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from web.guard import Keys, Session

CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"
MOST_PICTURES = 12
MOST_FIELDS = 20
MOST_FIELD_BYTES = 16 * 1024  # of what is no file
MAX_PICTURE_BYTES = 10 * 2**20  # as workers take

Screen = Callable[[Request, FormData], Awaitable[Response]]


def post(path: str, screen: Screen) -> Route:
    """An address that changes something: its form is read, and refused where the page did not write it."""

    @wraps(screen)
    async def checked(request: Request) -> Response:
        async with request.form(
            max_files=MOST_PICTURES, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES
        ) as form:
            shown = request.headers.get(CSRF_HEADER) or text(form, CSRF_FIELD)
            keys: Keys = request.state.keys
            session: Session = request.state.session
            if not keys.is_csrf_token(session, shown):
                raise HTTPException(403, "This form is out of date: load the page again, and send it once more.")
            return await screen(request, form)

    return Route(path, checked, methods=["POST"])


def text(form: FormData, name: str) -> str:
    """A field; empty where it is missing, or a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def required(form: FormData, name: str) -> str:
    """Raises HTTPException where it is empty."""
    value = text(form, name)
    if not value:
        raise HTTPException(400, f"The field {name} is missing.")
    return value


def integer(given: str, name: str, least: int, most: int) -> int:
    """Raises HTTPException where it is none within the limits."""
    if not (given.isascii() and given.isdigit() and len(given) <= 20 and least <= int(given) <= most):
        raise HTTPException(400, f"{name}: an integer from {least:,} to {most:,} is wanted.")
    return int(given)


def decimal(given: str, name: str) -> float | None:
    """None where nothing was given. Raises HTTPException where it is no distance."""
    if not given:
        return None
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise HTTPException(400, f"{name}: a number from 0 on is wanted.")
    return value


async def pictures(form: FormData, name: str) -> list[tuple[str, bytes]]:
    """(name, bytes) of each file that was sent; one that is too large is cut, so that a worker refuses it."""
    files = [each for each in form.getlist(name) if isinstance(each, UploadFile)]
    read = [(each.filename or "picture", await each.read(MAX_PICTURE_BYTES + 1)) for each in files]
    return [(name, content) for name, content in read if content]
