"""Stored digits as people see them: captions, pictures side by side, and what is said of them.

It must not know which command shows them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cli.display.console import foreign
from cli.display.terminal_digits import SIDE, Captioned, Glyph
from twinvec_client import Answer, Match, Neighbour

MOST_DRAWN = 24  # pictures at once; of more, a table says more


def glyph(pixels: bytes | None) -> Glyph | None:
    """784 bytes -> (28, 28) uint8."""
    return None if pixels is None else np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE)


def captioned(neighbour: Neighbour) -> Captioned:
    """Its picture over its label and distance, and its key."""
    return Captioned(
        glyph(neighbour.picture),
        [f"{shown_label(neighbour.label)}  [dim]{shown_distance(neighbour.distance)}[/]", foreign(place(neighbour))],
    )


def place(neighbour: Neighbour) -> str:
    """Where it stands: its key, and its collection unless that is the usual one."""
    return neighbour.key if neighbour.collection == "default" else f"{neighbour.collection}: {neighbour.key}"


def shown_label(label: int | None) -> str:
    return "[dim]no label[/]" if label is None else f"[bold]{label}[/]"


def looked_at(search: dict[str, Any]) -> str:
    """What a look-up under a tower reads, as `db.vectors.frame.Pruning` has it of the training images."""
    share = search["read"] / max(search["of"], 1)
    compared = f"{search['compared']:,} of {search['of']:,}"
    return f"reads {share:.1%} of the store's small vectors and compares {compared} vectors"


def shown_distance(distance: float) -> str:
    """Four places, or its first digits where these would all be 0."""
    return f"{distance:.4f}" if distance >= 0.001 or distance == 0 else f"{distance:.1e}"


def warning(answer: Answer) -> str | None:
    """That the picture looks like no digit, or nothing stored is near, where it is so; as rich markup."""
    if answer.doubtful:
        return (
            "[yellow]this does not look like a digit, or was read wrongly: `twinvec show` draws what was made of it[/]"
        )
    if not answer.neighbours:
        return None
    nearest = f"[yellow]the nearest is {shown_distance(answer.neighbours[0].distance)} away, farther than"
    if answer.far:
        limit = f"the threshold of {shown_distance(answer.threshold or 0.0)}"
        return f"{nearest} {limit}: beyond it, two pictures most likely show different digits[/]"
    if answer.unusual:
        limit = f"the {shown_distance(answer.usual or 0.0)} of 99 % of test digits"
        return f"{nearest} {limit}: an odd digit, none at all, or few are stored[/]"
    return None


def verdict(match: Match) -> str:
    """What a vote came to, as rich markup."""
    if not match.matched:
        return "[yellow]no match[/]: nothing stored is within the threshold"
    if match.label is None:
        return "no label: none of the nearest has one"
    voters = "1 vote" if match.voters == 1 else f"{match.voters} votes"
    if match.probability is None:
        return f"[bold]{match.label}[/] by {voters}; the tower was trained before votes were given a probability"
    return f"[bold]{match.label}[/] with probability {match.probability:.4f}, by {voters}"
