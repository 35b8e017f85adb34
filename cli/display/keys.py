"""Single key presses of a terminal, without Enter. It must not know what they mean."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ESCAPE = b"\x1b"  # an arrow key begins with it, and goes on with what would be other keys
_REST = 0.05  # seconds within which the rest of such a key comes
_SEQUENCES = (b"[", b"O")  # ECMA-48's CSI and SS3: what follows goes up to a byte of these
_FINAL = (b"@", b"~")


@contextmanager
def single_keys() -> Iterator[Callable[[], str]]:
    """What reads the next key, as a character; empty at the end of input.

    What is typed ahead is kept. Ctrl-C interrupts, as always.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSADRAIN)
    try:
        yield lambda: _read(terminal)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _read(terminal: int) -> str:
    key = os.read(terminal, 1)
    if key == _ESCAPE and select.select([terminal], [], [], _REST)[0]:
        begun = os.read(terminal, 1)
        while begun in _SEQUENCES and (rest := os.read(terminal, 1)) and not _FINAL[0] <= rest <= _FINAL[1]:
            pass
    return key.decode("ascii", "replace")
