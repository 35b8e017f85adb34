"""`twinvec demo`: the main job on the real MNIST, as an operator and an application would do it."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track
from sqlalchemy import text

from cli.demo import strokes
from cli.display.console import err, key_values, out, table
from cli.display.epochs import follow
from cli.errors import CommandError
from cli.exit_codes import INTERRUPTED
from local.signals import Interrupts
from local.stack import Stack
from training.data import mnist
from training.data.dataset import Bytes, Dataset
from training.pictures.read import read_picture
from training.report import plots
from twinvec_client import Answer, Digit, Tower, TrainingJob, TrainingOutcome, TrainingRunning, Twinvec, TwinvecError
from worker.settings import Settings

VOTERS = 100  # held-out digits whose neighbours are counted
QUERIES = 8  # of them are shown
K = 5


def demo(
    seed: Annotated[int | None, typer.Option(min=0, help="Of the training; the number of towers so far.")] = None,
) -> None:
    """Show the whole of Twinvec on the real MNIST, then stop all it started.

    It starts servers and workers of its own in TWINVEC_HOME/demo, trains a tower on the 60,000 training digits, sends
    all 70,000 through the client, counts their vectors in SQL, and looks up the neighbours of pictures that no tower
    has seen. Run again, it finds its data: the same digits change nothing, and a new tower takes over from the last.

    \b
    Example:
      twinvec demo
    """
    settings = Settings()
    data = mnist.load(settings.mnist)
    for name in ("TWINVEC_DATA", "TWINVEC_TRAIN_CRON"):  # its workers train on these digits, and when it says so
        os.environ.pop(name, None)
    home = settings.home / "demo"
    started = time.monotonic()
    with Interrupts() as interrupts:
        stack = Stack(
            Settings(home=home, broker_url=None, database_url=None),
            broker_port=0,
            say=lambda line: err.print(line, markup=False),
        )
        try:
            _heading("Start a broker, a database and workers")
            with err.status("starting"):
                stack.start()
            stack.supervise_aside()
            _Demo(stack, data, seed).run(started)
        except KeyboardInterrupt:
            err.print("interrupted; the next demo goes on with what is done")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            with err.status("stopping workers and servers"):
                stack.stop(interrupts, grace=5)
    out.print(f"Everything is stopped. The data stays in {stack.home}.", markup=False)


class _Demo:
    """The steps, each telling what it did; what they found out is gathered for the table at the end."""

    def __init__(self, stack: Stack, data: Dataset, seed: int | None) -> None:
        self.stack, self.data, self.seed = stack, data, seed
        self.tv = Twinvec(stack.broker_url)
        self.found: dict[str, str] = {"data": f"70,000 digits from {data.source}"}

    def run(self, started: float) -> None:
        outcome = self.train()
        self.embed()
        tower = self.await_live(outcome)
        self.verify(tower)
        self.vote()
        folder = self.stack.home / "pictures"
        folder.mkdir(exist_ok=True)
        self.look_up(folder / "neighbours.png")
        plots.training_curve(outcome.history, folder / "training.png")
        self.found["all of it"] = f"{time.monotonic() - started:.0f} s"
        _heading("What happened")
        out.print(key_values(**self.found))
        out.print(f"\nPictures: {folder}/neighbours.png and training.png", markup=False, soft_wrap=True)

    def train(self) -> TrainingOutcome:
        """Recipe `notebook`; a training that a killed demo left is gone on with."""
        _heading("Train the Siamese network on the 60,000 training digits")
        seed = len(self.tv.towers()) if self.seed is None else self.seed
        try:
            job = self.tv.train(recipe="notebook", seed=seed)
        except TrainingRunning:
            running = next(job for job in self.tv.jobs() if job.kind == "train" and not job.final)
            out.print("the training of a demo that was killed goes on; its lease ends within a minute")
            found = self.tv.job(running.id)
            assert isinstance(found, TrainingJob), found
            job = found
        try:
            outcome = follow(job)
        except KeyboardInterrupt:
            with suppress(TwinvecError):
                job.cancel()  # or the next demo would find it under way
            raise
        accuracy = outcome.metrics["pair_accuracy"]
        self.found["training"] = f"{accuracy:.4f} of the test pairs told apart, after {outcome.seconds:.0f} s"
        return outcome

    def embed(self) -> None:
        """All 70,000 as two bulk jobs through the client, each digit with its key and label."""
        _heading("Send all 70,000 digits through the client")
        data, known = self.data, {job.id for job in self.tv.jobs(limit=1000)}
        start = time.monotonic()
        new = self.send("train", data.train_images, data.train_labels, known)
        new += self.send("test", data.test_images, data.test_labels, known)
        seconds = time.monotonic() - start
        self.found["embedding"] = (
            f"{new:,} images sent and embedded in {seconds:.1f} s, {new / seconds:,.0f} a second"
            if new
            else f"the same jobs as last time, so nothing changed ({seconds:.1f} s)"
        )
        out.print(self.found["embedding"])

    def send(self, name: str, images: Bytes, labels: Bytes, known: set[str]) -> int:
        """One bulk job; how many of its pictures were embedded by this call."""
        stream = (
            (f"{name}/{index:05}", Digit(image, label=int(label)))
            for index, (image, label) in enumerate(zip(images, labels, strict=True))
        )
        key = f"{name} digits {self.data.digest}"
        job = self.tv.embed(stream, collection=f"mnist-{name}", idempotency_key=key, progress=True)
        result = job.wait(progress=True)
        if result.failed:
            raise CommandError(f"{result.failed:,} digits were not embedded: see the logs in {self.stack.logs}")
        return 0 if job.id in known else result.succeeded

    def await_live(self, outcome: TrainingOutcome) -> Tower:
        """The first tower is live at once; a later one when every stored digit has a vector under it."""
        start = time.monotonic()
        with err.status("waiting until every vector is stored under the new tower"):
            while True:
                tower = next(tower for tower in self.tv.towers() if tower.id == outcome.tower)
                if tower.status == "live" and not tower.due:
                    break
                if tower.status not in ("live", "candidate"):
                    raise CommandError(f"tower {tower.id} is {tower.status}: see the logs in {self.stack.logs}")
                time.sleep(0.2)
        if outcome.status == "candidate":
            seconds = time.monotonic() - start
            self.found["taking over"] = f"{tower.embedded:,} vectors under the new tower, live {seconds:.1f} s later"
        return tower

    def verify(self, tower: Tower) -> None:
        """Count in SQL, not by what the jobs say. Raises CommandError where a digit or a vector is missing."""
        _heading("Count in SQL")
        expected = len(self.data.train_images) + len(self.data.test_images)
        with self.stack.database() as engine, engine.connect() as connection:
            digits = connection.execute(text("SELECT count(*) FROM digits")).scalar_one()
            under = text("SELECT count(*) FROM embeddings WHERE tower = :tower")
            vectors = connection.execute(under, {"tower": tower.id}).scalar_one()
        self.found["in SQL"] = f"{digits:,} digits; {vectors:,} vectors under tower {tower.id}"
        out.print(self.found["in SQL"])
        if (digits, vectors) != (expected, expected):
            raise CommandError(f"SQL holds {digits:,} digits and {vectors:,} vectors; {expected:,} of each were sent")

    def vote(self) -> None:
        """What the nearest training digits say of test digits, which no tower was trained on."""
        _heading("Look up held-out digits among the 60,000 training digits")
        images, labels = self.data.test_images[:VOTERS], self.data.test_labels[:VOTERS]
        start = time.monotonic()
        answers: list[Answer] = []
        for image in track(images, f"looking up {VOTERS} digits", console=err):
            answers.append(self.tv.nearest(image, k=K, collection="mnist-train"))
        each = 1000 * (time.monotonic() - start) / VOTERS
        right = sum(_winner(answer) == label for answer, label in zip(answers, labels, strict=True))
        self.found["look-up"] = (
            f"{right} of {VOTERS} held-out digits named right by their {K} nearest; {each:.1f} ms a digit"
        )
        out.print(self.found["look-up"])

    def look_up(self, gallery: Path) -> None:
        """Neighbours of test digits and of pictures that are not MNIST's at all, as a table and as a gallery."""
        data = self.data
        asked: list[tuple[str, int, Any]] = [
            (f"test/{index:05}", int(data.test_labels[index]), data.test_images[index]) for index in range(QUERIES)
        ]
        asked += [(f"pen on paper: {digit}", digit, strokes.png(digit)) for digit in strokes.DIGITS]
        rows = table("held-out picture", f"{K} nearest training digits: label and distance", "vote")
        shown = []
        for name, label, picture in asked:
            answer = self.tv.nearest(picture, k=K, collection="mnist-train")
            distances = "   ".join(f"[bold]{each.label}[/] {each.distance:.4f}" for each in answer)
            vote = _winner(answer)
            rows.add_row(name, distances, f"[green]{vote}[/]" if vote == label else f"[red]{vote}, not {label}[/]")
            glyph = read_picture(picture) if isinstance(picture, bytes) else picture
            near = [plots.Near(self.stored(each.key), each.label, each.distance) for each in answer]
            shown.append(plots.Row(glyph, label, near))
        out.print(rows)
        plots.neighbour_gallery(shown, gallery)

    def stored(self, key: str) -> Bytes:
        """The training digit that was sent under a key, (28, 28) uint8."""
        glyph: Bytes = self.data.train_images[int(key.removeprefix("train/"))]
        return glyph


def _winner(answer: Answer) -> int | None:
    """The label that most neighbours have; of equals, the nearest one's."""
    return Counter(neighbour.label for neighbour in answer).most_common(1)[0][0]


def _heading(line: str) -> None:
    out.print(f"\n[bold]{line}[/]")
