"""Templates, and how what they show is written: pictures, numbers, times, and whatever strangers have named.

Everything is escaped by the templates themselves; nothing here marks a text as safe.
"""

from __future__ import annotations

import base64
import struct
import unicodedata
import zlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from twinvec_client.contract.limits import GLYPH_BYTES, SIDE

TEMPLATES = Path(__file__).parent / "templates"
MOST_SHOWN = 60  # characters of a key or a label
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def render(
    request: Request,
    template: str,
    /,
    *,
    part: str | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **context: Any,
) -> Response:
    """A whole page, or the part of it that a script has asked for."""
    wanted = part if part is not None and request.headers.get("hx-request") else template
    state = request.state
    context |= {
        "csrf_token": state.keys.csrf_token(state.session),
        "here": request.url.path,
        "can_sign_out": state.needs_token and state.session.signed_in,
    }
    shown = environment().get_template(wanted).render(context)
    return HTMLResponse(shown, status, headers={"vary": "hx-request", **(headers or {})})


@cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "distance": distance,
        "duration": duration,
        "glyph": glyph,
        "moment": moment,
        "number": number,
        "percent": percent,
        "short": short,
        "words": words,
    }
    made.globals |= {"url": url}
    return made


def short(text: str | None, most: int = MOST_SHOWN) -> str:
    """A text of a stranger's, in one line of at most so many characters, nothing in it invisible."""
    plain = "".join("\N{REPLACEMENT CHARACTER}" if _is_hidden(each) else each for each in (text or "")[: most + 1])
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def words(name: str) -> str:
    """A name of the contract's as people read it."""
    return name.replace("_", " ")


def number(value: float | None) -> str:
    """With commas; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """A share of 1. Certain is what is certain alone: 0.9999 is not 100 %."""
    if share is None:
        return "–"
    places = 1 if share < 0.9995 or share == 1 else 2
    shown = f"{100 * share:.{places}f}"
    return "> 99.99\N{NO-BREAK SPACE}%" if shown == "100.00" and share < 1 else f"{shown}\N{NO-BREAK SPACE}%"


def distance(value: float | None) -> str:
    """Four places, or its first digits where these would all be 0."""
    if value is None:
        return "–"
    return f"{value:.4f}" if value >= 0.001 or value == 0 else f"{value:.1e}"


def duration(seconds: float | None) -> str:
    """In the two largest units that it has."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"


def moment(iso: str | None) -> str:
    """A time in UTC, to the minute."""
    if not iso:
        return "–"
    at = datetime.fromisoformat(iso)
    return f"{(at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def url(path: str, **query: Any) -> str:
    """A path of the page's with a query, without what is None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def glyph(pixels: bytes | None) -> str:
    """784 uint8 -> a grey PNG of 28x28 as a data URL; empty where there are none."""
    if pixels is None or len(pixels) != GLYPH_BYTES:
        return ""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def png(pixels: bytes) -> bytes:
    """784 uint8 -> a grey PNG of 28x28 (RFC 2083)."""
    rows = b"".join(b"\0" + pixels[at : at + SIDE] for at in range(0, GLYPH_BYTES, SIDE))  # 0: no filter
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)  # 8 bits, grey
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 6)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
