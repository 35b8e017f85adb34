"""Pictures behind URLs, such as a bucket's, where the settings allow these -> keys and bytes. It must not decode one.

fsspec opens them: the package of each kind of storage stands beside it, with its own credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

from cli.errors import CommandError
from twinvec_client.contract.limits import MAX_PICTURE_BYTES


def is_url(word: str) -> bool:
    """`s3://bucket/scans`, and not a path."""
    return "://" in word


def require_allowed(url: str, allowed: Sequence[str]) -> None:
    """Raises CommandError unless a URL is one of those that are allowed, or lies under one."""
    odd = "::" in url or "\\" in url or ".." in url.split("/") or "%2e" in url.lower()
    if odd or not any(f"{url}/".startswith(each.rstrip("/") + "/") for each in allowed):
        known = ", ".join(allowed) or "none is"
        raise CommandError(
            f"{url}: pictures are read from URLs that TWINVEC_INPUT_URLS allows, by how they begin ({known} allowed)"
        )


def files_at(url: str) -> Iterator[tuple[PurePosixPath, str, bytes]]:
    """(name, URL, content) of the file at a URL, or of every file under it, in a stable order; hidden ones left out.

    Of one that is too large for a picture, the beginning. Raises CommandError.
    """
    try:
        fsspec: Any = import_module("fsspec")
    except ImportError:
        raise CommandError(f"{url}: URLs are opened by fsspec: `pip install fsspec`") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
        names = [path] if system.isfile(path) else sorted(filter(partial(_is_shown_in, path), system.find(path)))
        for name in names:
            with system.open(name, "rb") as file:
                yield PurePosixPath(name), system.unstrip_protocol(name), file.read(MAX_PICTURE_BYTES + 1)
    except CommandError:
        raise
    except Exception as error:  # every kind of storage raises errors of its own
        raise CommandError(f"{url} cannot be read: {error or type(error).__name__}") from error
    if not names:
        raise CommandError(f"{url}: nothing is there")


def _is_shown_in(folder: str, name: str) -> bool:
    """Whether a file lies in a folder, and is not hidden: a server may list what lies elsewhere."""
    start = f"{folder.rstrip('/')}/"
    return name.startswith(start) and not any(part.startswith(".") for part in name.removeprefix(start).split("/"))
