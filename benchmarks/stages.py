"""Where the time of bulk work goes: every stage of the path alone, beside what bounds it on the same machine.

python -m benchmarks.stages                  # prints the table
python -m benchmarks.stages --write          # and puts it in docs/performance.md
python -m benchmarks.stages --repetitions 3 --digits 1000
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.pages import circumstances, publish, table
from benchmarks.processes import alone
from benchmarks.servers import ledger
from twinvec_client.contract.limits import MAX_CHUNK_ITEMS

CORES = 2  # that the rate is told for

# Title, figure, the figures that its limit is the sum of, and what that is. Those that begin with a dash are parts.
STAGES: Sequence[tuple[str, str, tuple[str, ...], str]] = (
    ("client: cut and encode", "cut", ("cut_limit",), "BLAKE2b and Zstandard of the pixels, a call each"),
    ("- pack", "pack", (), ""),
    ("client: message, LPUSH", "chunk_send", ("chunk_send_limit",), "LPUSH of as many bytes"),
    ("intake: BRPOP, message, ack", "chunk_receive", ("chunk_receive_limit",), "BRPOP of as many bytes"),
    ("intake: check, unpack, read", "read_chunk", ("unpack_limit",), "Zstandard, one call"),
    ("- unpack", "unpack", (), ""),
    (
        "intake: submit",
        "submit",
        ("plan_limit", "copy_digits_limit"),
        "SHA-256 in one call, COPY of the rows in one go",
    ),
    ("- job opened; keys looked up, ids drawn", "submit_keys", (), ""),
    ("- SHA-256", "submit_plan", ("plan_limit",), "SHA-256 of the pixels, one call"),
    ("- COPY of digits", "submit_copy", ("copy_digits_limit",), "COPY of the rows in one go, and commit"),
    ("- commit", "submit_commit", (), ""),
    ("message: sent", "message_send", ("message_send_limit",), "LPUSH of as many bytes"),
    ("message: received", "message_receive", ("message_receive_limit",), "BRPOP of as many bytes"),
    ("embedder: claim", "claim", ("claim_limit",), "a transaction that does nothing"),
    ("embedder: read pixels", "read_pixels", ("read_pixels_limit",), "the rows received, not looked at"),
    ("embedder: tower", "tower", ("tower_limit",), "all of its matrix products in NumPy"),
    ("embedder: finish", "finish", ("copy_embeddings_limit",), "COPY of the rows in one go, and commit"),
    ("- fence, towers, digits still there, vectors there already", "finish_asked", (), ""),
    ("- COPY of vectors", "finish_copy", ("copy_embeddings_limit",), "COPY of the rows in one go, and commit"),
    ("- commit", "finish_commit", (), ""),
)
DECODING = ("intake: read a PNG", "png", ("png_limit",), "Pillow's open and convert")  # of what does not come raw
HEADS = ["stage", "µs", "CPU here", "CPU of the servers", "limit µs", "limit CPU", "limit: what"]

Figure = tuple[float, float, float]  # µs an image: wall, CPU here, CPU of the servers


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    with ledger() as place:
        run = alone("stages", place=asdict(place), count=wanted.digits, repetitions=wanted.repetitions)
    figures = {name: (figure[0], figure[1], figure[2]) for name, figure in run["figures"].items()}
    head = f"{wanted.digits:,} digits a chunk, {run['packed']:,} bytes packed; medians of {wanted.repetitions} chunks."
    publish("stages", "\n\n".join([head, stages(figures), ceiling(figures), circumstances(load)]), write=wanted.write)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=MAX_CHUNK_ITEMS, help="of a chunk, which is one batch")
    parser.add_argument("--repetitions", type=int, default=15, help="chunks that are counted at every stage")
    parser.add_argument("--write", action="store_true", help="put the table in docs/performance.md")
    return parser.parse_args()


def stages(figures: dict[str, Figure]) -> str:
    """Every stage and its limit; all together; and what a PNG adds."""
    rows = [_row(title, figures[name], _sum(figures, bounds), words) for title, name, bounds, words in STAGES]
    whole, bound = _totals(figures)
    title, name, bounds, words = DECODING
    rows += [_row("**all**", whole, bound, ""), _row(title, figures[name], _sum(figures, bounds), words)]
    return table(HEADS, rows)


def ceiling(figures: dict[str, Figure]) -> str:
    """What cores that never wait could reach."""
    done, most = (CORES * 1e6 / (here + servers) for _, here, servers in _totals(figures))
    return f"{CORES} cores that never wait reach {done:,.0f} images/s with this CPU time, {most:,.0f} with the limits'."


def _totals(figures: dict[str, Figure]) -> tuple[Figure, Figure]:
    """All stages, and all limits."""
    whole = [stage for stage in STAGES if not stage[0].startswith("-")]
    return _sum(figures, [name for _, name, _, _ in whole]), _sum(
        figures, [name for *_, all, _ in whole for name in all]
    )


def _sum(figures: dict[str, Figure], names: Sequence[str]) -> Figure:
    wall, here, servers = (sum(figures[name][at] for name in names) for at in range(3))
    return wall, here, servers


def _row(title: str, figure: Figure, bound: Figure, words: str) -> list[str]:
    limits = [f"{bound[0]:.2f}", f"{bound[1] + bound[2]:.2f}"] if any(bound) else ["", ""]
    return [title.replace("- ", "&ndash; "), *[f"{value:.2f}" for value in figure], *limits, words]


if __name__ == "__main__":
    main()
