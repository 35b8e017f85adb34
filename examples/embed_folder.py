"""Embed a folder of pictures, follow the job, and look up the neighbours of one: all through the client.

python examples/embed_folder.py scans/ --broker redis://localhost:6379/0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from twinvec_client import EmbedJob, Twinvec

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Embed a folder of pictures of digits.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--broker", default="redis://localhost:6379/0", help="the workers' broker")
    parser.add_argument("--collection", default="example", help="where the digits are stored")
    arguments = parser.parse_args()

    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        parser.error(f"{arguments.folder} holds no pictures")
    tv = Twinvec(arguments.broker)
    # Each path is its own key. The same key with the same files is the same job, so this script may be run again.
    job = tv.embed(files, collection=arguments.collection, idempotency_key=str(arguments.folder.resolve()))
    follow(job)
    show_neighbours(tv, files[0], arguments.collection)


def follow(job: EmbedJob) -> None:
    """Wait for the end of a job and say what became of its pictures."""
    outcome = job.wait(progress=True)
    print(f"{outcome.state}: {outcome.succeeded} embedded, {outcome.unchanged} unchanged, {outcome.failed} failed")
    for failure in job.failures():
        print(f"  {failure.key}: {failure.reason}: {failure.message}")


def show_neighbours(tv: Twinvec, picture: Path, collection: str) -> None:
    print(f"nearest to {picture}:")
    for neighbour in tv.nearest(picture, k=5, collection=collection):
        print(f"  {neighbour.distance:.4f}  {neighbour.key}")


if __name__ == "__main__":
    main()
