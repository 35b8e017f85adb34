"""A folder of scans and photographs, from its files to committed rows: Twinvec beside a plain script.

    python -m benchmarks.folder
    python -m benchmarks.folder --count 2000 --intakes 1

Half are scans (PNG, 200x200, dark on light) and half photographs (JPEG in colour, shaded and noisy, 150 to 240 pixels),
of MNIST's test digits. The script decodes with OpenCV, divides by Otsu's threshold, crops to what is dark and resizes
that into 20x20: it has no frames, shadows or bad files to fear. Both store digits and vectors in the same tables.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.conditions import enlarged, grain, on_page, paper, png
from benchmarks.pages import circumstances, table
from benchmarks.processes import alone
from benchmarks.servers import everything, ledger
from training.arrays import Uint8
from training.data import mnist

WARM = 200  # pictures that are embedded before the clock runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--intakes", default="1,2", help="numbers of processes that decode, one run for each")
    wanted = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="twinvec-folder-") as folder:
        fill(Path(folder), wanted.count)
        told: dict[str, Any] = {"pictures": folder, "warm": WARM}
        with ledger() as place:
            runs = [("plain script", alone("folder_plain", place=asdict(place), **told))]
        for processes in map(int, wanted.intakes.split(",")):
            os.environ["TWINVEC_INTAKE_PROCESSES"] = str(processes)
            with everything() as place:
                runs.append((f"Twinvec, decoded by {processes}", alone("folder", place=asdict(place), **told)))
    plain = runs[0][1]["rate"]
    heads = ["contestant", "pictures/s", "of the script", "refused", "CPU ms each: client", "intake", "embedder"]
    rows = [
        [name, f"{run['rate']:,.0f}", f"{run['rate'] / plain:.2f}", run["refused"], *map("{:.2f}".format, run["cpu"])]
        for name, run in runs
    ]
    print(f"{wanted.count:,} pictures.\n\n{table(heads, rows)}\n\n{circumstances(load)}")


def fill(folder: Path, count: int) -> None:
    """Write that many files, scans and photographs in turn."""
    random = np.random.default_rng(2)
    digits = mnist.load().test_images
    for at in range(count):
        digit = digits[at % len(digits)]
        name, data = (f"{at:06}.jpg", photograph(digit, random)) if at % 2 else (f"{at:06}.png", scan(digit, random))
        (folder / name).write_bytes(data)


def scan(digit: Uint8, random: np.random.Generator) -> bytes:
    return png(paper(on_page(digit, random)))


def photograph(digit: Uint8, random: np.random.Generator) -> bytes:
    """A JPEG in colour of a digit under light that falls off to one side."""
    side = int(random.integers(150, 241))
    ink = np.zeros((side, side), np.float32)
    top, left = random.integers(0, side - 119, 2)
    ink[top : top + 120, left : left + 120] = enlarged(digit, 120)
    down, across = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    light = 180 + random.uniform(-40, 40) * down + random.uniform(-40, 40) * across
    levels = light - ink * random.uniform(50, 120) + grain(random, ink.shape, 6.0)
    file = BytesIO()
    grey = Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8))
    grey.convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


if __name__ == "__main__":
    main()
