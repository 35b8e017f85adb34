"""Five cron fields, read as cron reads them, as schedules of Celery's. It must not know what is scheduled."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

FIELDS = "minute hour day-of-month month day-of-week"
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LIMITS = {"minute": (0, 59), "hour": (0, 23), "day-of-month": (1, 31), "month": (1, 12), "day-of-week": (0, 7)}
_PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")


def schedules(cron: str, now: Callable[[], datetime] | None = None) -> list[Any]:
    """Celery's schedules, any of which starts what is scheduled: five fields joined by blanks, or one of `@daily` and
    its like. 0 and 7 are Sunday; where day and weekday are both limited, either one will do. now: their clock, if it is
    not the machine's. Raises ValueError.
    """
    words = _MACROS.get(cron.strip().lower(), cron).split()
    if len(words) != len(_LIMITS):
        raise ValueError(f"expected five cron fields: {FIELDS}, or one of {', '.join(_MACROS)}")
    minute, hour, day, month, weekday = (_expand(name, word) for name, word in zip(_LIMITS, words, strict=True))
    weekday = {each % 7 for each in weekday}
    every_day, every_weekday = set(range(1, 32)), set(range(7))
    if words[2].startswith("*") or words[4].startswith("*"):
        return [_crontab(now, minute, hour, day, month, weekday)]
    return [
        _crontab(now, minute, hour, day, month, every_weekday),
        _crontab(now, minute, hour, every_day, month, weekday),
    ]


def next_at(cron: str, now: datetime) -> datetime:
    """When it is due next after `now`, which knows its time zone. Raises ValueError."""
    due: list[datetime] = [now + each.remaining_estimate(now) for each in schedules(cron, lambda: now)]
    return min(due)


def _expand(name: str, field: str) -> set[int]:
    """The numbers that a field names: `*`, `5`, `mon-fri`, `*/20`, `1-5/2`, joined by commas."""
    found = set[int]()
    least, most = _LIMITS[name]
    for part in field.split(","):
        read = _PART.fullmatch(part)
        if read is None:
            raise ValueError(f"expected five cron fields: {FIELDS}; {part!r:.40} is no {name}")
        first = least if read["first"] is None else _number(name, read["first"])
        last = most if read["first"] is None or (read["step"] and not read["last"]) else first
        last = last if read["last"] is None else _number(name, read["last"])
        step = int(read["step"] or 1)
        if step < 1 or last < first:
            raise ValueError(f"expected five cron fields: {FIELDS}; {part!r:.40} names no {name}")
        found |= set(range(first, last + 1, step))
    return found


def _number(name: str, word: str) -> int:
    least, most = _LIMITS[name]
    names = {"month": _MONTHS, "day-of-week": _DAYS}.get(name, ())
    if word.lower() in names:
        return names.index(word.lower()) + least
    if not (word.isascii() and word.isdecimal() and least <= int(word) <= most):
        raise ValueError(f"expected five cron fields: {FIELDS}; {word!r:.40} is no {name} from {least} to {most}")
    return int(word)


def _crontab(now: Callable[[], datetime] | None, *fields: set[int]) -> Any:
    from celery.schedules import crontab  # noqa: PLC0415  # loads Celery, for who has such a schedule

    minute, hour, day, month, weekday = (sorted(field) for field in fields)
    return crontab(minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday, nowfun=now)
