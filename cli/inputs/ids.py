"""What a person types for a job or a tower -> the one that is meant.

An id, its first characters where no other begins with them, or `last`. It must not know how ids are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from cli.errors import CommandError
from twinvec_client import EmbedJob, TrainingJob, Twinvec

LAST = "last"
SHORTEST = 4  # characters of an id: fewer are a slip, and `cancel` acts on what it is given
_LATEST = 1000  # jobs among which a beginning is looked up
_SHOWN = 5  # candidates that an ambiguous beginning lists
_WHOLE = 32  # hexadecimal digits of a UUID


def find_job(tv: Twinvec, word: str) -> EmbedJob | TrainingJob:
    """The job that is meant. Raises CommandError, or UnknownJob for a whole id that does not exist."""
    if len(word.replace("-", "")) >= _WHOLE:
        return tv.job(word)
    ids = [status.id for status in tv.jobs(limit=1 if word == LAST else _LATEST)]
    return tv.job(_pick(word, ids, "job", "jobs"))


def shorten(ids: Sequence[str]) -> list[str]:
    """The first 8 characters of each, where these tell them apart; else as they are. `find_job` takes them."""
    short = [id[:8] for id in ids]
    return short if len(set(short)) == len(short) else list(ids)


class Named(Protocol):
    """A tower, by whatever names it."""

    @property
    def id(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...


N = TypeVar("N", bound=Named)


def find_tower(towers: Sequence[N], word: str) -> N:
    """The tower that is meant, by id or by fingerprint; the towers come newest first. Raises CommandError."""
    by_name = {str(tower.id): tower for tower in towers}
    if word in by_name:
        return by_name[word]
    by_name = {tower.fingerprint: tower for tower in towers}
    return by_name[_pick(word, list(by_name), "tower", "towers")]


def _pick(word: str, ids: Sequence[str], noun: str, command: str) -> str:
    """The one of the ids, newest first, that `word` means."""
    if word == LAST:
        if not ids:
            raise CommandError(f"there is no {noun} yet")
        return ids[0]
    found = [id for id in ids if id.startswith(word.lower())] if len(word) >= SHORTEST else []
    if len(found) == 1:
        return found[0]
    if not found:
        short = f", and a beginning has {SHORTEST} characters or more" if len(word) < SHORTEST else ""
        raise CommandError(f"no {noun} has the id {word}{short}: `twinvec {command}` lists them")
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    raise CommandError(f"{word} is the beginning of {len(found):,} {command}: {', '.join(found[:_SHOWN])}{more}")
