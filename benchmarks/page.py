"""The page in the browser under load: visitors who draw at once, on an idle system and while a bulk job runs.

python -m benchmarks.page
python -m benchmarks.page --stored 5000 --bulk 20000 --seconds 10
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import re
import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.conditions import enlarged
from benchmarks.pages import circumstances, percentile, table
from benchmarks.place import Place
from benchmarks.processes import alone
from benchmarks.servers import everything
from training.arrays import Uint8
from training.data import mnist
from twinvec_client import Digit, Twinvec

SHEET = 560  # pixels of the canvas's side
DRAWN = 20  # drawings that visitors take turns with


class Visits(NamedTuple):
    """What visitors got: seconds of each answer that was right, and what was wrong with the others."""

    seconds: list[float]
    errors: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds that a visitor draws before each look-up")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")
    parser.add_argument("--stored", type=int, default=60_000, help="digits that are there to be found, with labels")
    parser.add_argument("--bulk", type=int, default=200_000, help="digits of the job beside")
    wanted = parser.parse_args()
    load = os.getloadavg()[0]
    data = mnist.load()
    drawings = [drawn(image) for image in data.test_images[:DRAWN]]
    with everything("quick") as place, Twinvec(place.broker_url) as tv:
        digits = zip(data.train_images[: wanted.stored], data.train_labels, strict=False)
        known = ((f"train/{at:05}", Digit(image, int(label))) for at, (image, label) in enumerate(digits))
        tv.embed(known, collection="stored").wait()
        with page(place) as url:
            visit(url, drawings, wanted.visitors, 0.0, until=lambda: True)  # each once: nothing is loaded later
            idle = visit(url, drawings, wanted.visitors, wanted.pause, until=after(wanted.seconds))
            with ThreadPoolExecutor(1) as beside:
                bulk = beside.submit(alone, "twinvec", place=asdict(place), count=wanted.bulk, warm=1, png=False)
                during = visit(url, drawings, wanted.visitors, wanted.pause, until=bulk.done)
                seconds = bulk.result()["seconds"]
    rate = f"{wanted.bulk / seconds:,.0f} images/s"
    rows = [row("an idle system", idle), row(f"while a job of {wanted.bulk:,} runs ({rate})", during)]
    head = f"{wanted.visitors} visitors, a drawing each {wanted.pause:g} s and its answer, of {wanted.stored:,} digits"
    print(table([head, "answers", "median ms", "95th percentile", "longest", "errors"], rows))
    for error in sorted({*idle.errors, *during.errors}):
        print(f"error: {error}")
    print(f"\n{circumstances(load)}")


def row(title: str, found: Visits) -> list[object]:
    values = [statistics.median(found.seconds), percentile(found.seconds, 0.95), max(found.seconds)]
    return [title, f"{len(found.seconds):,}", *(f"{1000 * value:,.0f}" for value in values), len(found.errors)]


def after(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have gone by."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def drawn(digit: Uint8) -> bytes:
    """(28, 28) uint8 -> a PNG as a canvas in a browser makes it: dark strokes on nothing."""
    alpha = np.clip(enlarged(digit, SHEET) * 255, 0, 255).astype(np.uint8)
    strokes = np.zeros((SHEET, SHEET, 4), np.uint8)
    strokes[..., :3], strokes[..., 3] = (27, 35, 43), alpha
    file = io.BytesIO()
    Image.fromarray(strokes).save(file, "PNG")
    return file.getvalue()


@contextmanager
def page(place: Place) -> Iterator[str]:
    """`twinvec web` on the place's broker, and its address."""
    environment = os.environ | {"TWINVEC_BROKER_URL": place.broker_url, "TWINVEC_HOME": place.folder}
    command = [sys.executable, "-m", "cli", "web", "--port", "0"]
    served = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert served.stdout is not None
        found = re.search(r"http://localhost:(\d+)", served.stdout.readline())
        assert found, "the page did not start"
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        served.terminate()
        served.wait(timeout=30)


def visit(url: str, drawings: list[bytes], visitors: int, pause: float, *, until: Callable[[], bool]) -> Visits:
    """All visitors at once, each of whom draws and looks up again and again until that is so, once at least."""
    found = Visits([], [])
    threads = [
        threading.Thread(target=_visitor, args=(url, drawings, at, pause * at / visitors, pause, until, found))
        for at in range(visitors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _visitor(
    url: str, drawings: list[bytes], at: int, late: float, pause: float, until: Callable[[], bool], found: Visits
) -> None:
    """One of them. late: seconds after the first that it begins."""
    time.sleep(late)
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        cookie = (answer.headers["set-cookie"] or "").partition(";")[0]
        token = re.search(r'name="csrf-token" content="(\w+)"', answer.read().decode())
        headers = {"origin": url, "cookie": cookie, "x-csrf-token": token[1] if token else "", "hx-request": "true"}
        while True:
            boundary, drawing = secrets.token_hex(8), drawings[at % len(drawings)]
            kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
            start = time.monotonic()
            connection.request("POST", "/look", _form(boundary, drawing), headers | kind)
            answer = connection.getresponse()
            body = answer.read().decode()
            if answer.status == 200 and 'class="verdict"' in body:
                found.seconds.append(time.monotonic() - start)
            else:
                found.errors.append(f"{answer.status} {' '.join(re.sub('<[^>]+>', ' ', body).split())[:120]}")
            if until():
                return
            at += 1
            time.sleep(pause)
    except OSError as error:
        found.errors.append(str(error))
    finally:
        connection.close()


def _form(boundary: str, drawing: bytes) -> bytes:
    """What the page's form sends."""
    head = 'Content-Disposition: form-data; name="picture"; filename="drawing.png"\r\nContent-Type: image/png'
    k = f'--{boundary}\r\nContent-Disposition: form-data; name="k"\r\n\r\n10\r\n'
    return f"{k}--{boundary}\r\n{head}\r\n\r\n".encode() + drawing + f"\r\n--{boundary}--\r\n".encode()


if __name__ == "__main__":
    main()
