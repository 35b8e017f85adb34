"""`twinvec top`: lanes, workers, jobs and towers, as they change. How that looks is `display.dashboard`'s affair."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated, get_args

import typer
from rich.live import Live

from cli.connect import client
from cli.display.console import out, print_json
from cli.display.dashboard import View, screen
from cli.display.keys import single_keys
from cli.options import Json
from twinvec_client import Overview, Tower, Twinvec, TwinvecError
from twinvec_client.contract.states import PausableLane

DRAWN_EVERY = 0.25  # seconds
TOWERS_EVERY = 10.0  # seconds: to list them counts all stored digits
ANSWERED_WITHIN = 5.0  # seconds for an answer, before it is said that none comes
LANES: tuple[PausableLane, ...] = get_args(PausableLane)


def top(
    once: Annotated[bool, typer.Option("--once", help="Show what there is now, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    json: Json = False,
) -> None:
    """Watch what goes on: lanes and what waits on each, workers and what they are at, jobs with bars, towers.

    Keys: q leaves, n marks the next lane that may be paused, p pauses it or lets it go on. A broker that goes away is
    waited for, and said. Where the output is not a terminal, and with --once or --json, it looks once and ends.

    \b
    Example:
      twinvec top
      twinvec top --once
      twinvec top --json | jq .backlog
    """
    tv = client()
    if json:
        print_json(tv.overview())
    elif once or not out.is_terminal:
        out.print(screen(View(tv.overview(), tv.towers()), width=out.width))
    else:
        _watch(tv, every)


def _watch(tv: Twinvec, every: float) -> None:
    looking = Looking(tv, every)
    looking.look()  # what cannot be asked at all is said as by every other command
    chosen, said = LANES.index("embed"), ""
    with ExitStack() as stack:
        typed = _typed(stack)
        live = stack.enter_context(Live(console=out, screen=True, auto_refresh=False))
        stack.enter_context(looking)
        while True:
            lane = LANES[chosen]
            view = looking.view(lane, said or None, keys=typed is not None)
            live.update(screen(view, width=out.width, height=out.height), refresh=True)
            key = "" if typed is None else typed(DRAWN_EVERY)
            if typed is None:
                time.sleep(DRAWN_EVERY)
            if key in ("q", "Q"):
                return
            if key in ("n", "\t"):
                chosen, said = (chosen + 1) % len(LANES), ""
            elif key == "p":
                said = looking.turn(lane)


def _typed(stack: ExitStack) -> Callable[[float], str] | None:
    """What waits some seconds for a key; None where none can be typed."""
    if not sys.stdin.isatty() or os.name != "posix":
        return None
    press = stack.enter_context(single_keys())
    return lambda seconds: press() if select.select([sys.stdin], [], [], seconds)[0] else ""


class Looking:
    """Asks again and again, in a thread, while the block runs; what it has learnt last."""

    def __init__(self, tv: Twinvec, every: float) -> None:
        self._tv, self._every = tv, every
        self._seen: Overview | None = None
        self._towers: Sequence[Tower] = ()
        self._error: str | None = None
        self._at = self._towers_at = 0.0  # time.monotonic() of the last answers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="looking", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def view(self, chosen: str, said: str | None, *, keys: bool) -> View:
        """What there is to show."""
        assert self._seen is not None
        silent = time.monotonic() - self._at
        error = self._error or ("the answer takes long" if silent > ANSWERED_WITHIN + self._every else None)
        return View(self._seen, self._towers, chosen, said, error, silent, keys=keys)

    def look(self) -> None:
        """Ask once. Raises TwinvecError."""
        self._seen, self._at = self._tv.overview(), time.monotonic()
        if time.monotonic() - self._towers_at > TOWERS_EVERY:
            self._towers, self._towers_at = self._tv.towers(), time.monotonic()
        self._error = None

    def turn(self, lane: PausableLane) -> str:
        """Pause a lane, or let it go on; what is to be said of it."""
        seen = self._seen
        paused = seen is not None and any(each.name == lane and each.paused for each in seen.lanes)
        try:
            if paused:
                self._tv.resume(lane=lane)
            else:
                self._tv.pause(lane=lane)
            self.look()
        except TwinvecError as error:
            return f"{lane}: {error}"
        return f"{lane} goes on" if paused else f"{lane} is paused; p again lets it go on"

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self.look()
            except TwinvecError as error:
                self._error = str(error)
