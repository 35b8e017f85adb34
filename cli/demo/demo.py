"""`twinvec demo`: the main job on the real MNIST, as an operator and an application would do it.

It must not do what they could not: it starts a stack, asks the client, and counts in SQL.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import track
from sqlalchemy import text

from cli.commands.report import write
from cli.demo import strokes
from cli.display.console import err, key_values, out, print_json, table
from cli.display.epochs import follow
from cli.errors import CommandError
from cli.exit_codes import INTERRUPTED
from cli.options import Json
from db.engine import connect
from local.detached import running, start_detached, stop_detached
from local.servers import Servers
from local.signals import Interrupts
from training.arrays import Uint8
from training.data import mnist
from training.data.dataset import Dataset
from twinvec_client import Answer, Digit, Tower, TrainingJob, TrainingOutcome, TrainingRunning, Twinvec, TwinvecError
from worker.runfile import RunFile
from worker.settings import Settings

VOTERS = 100  # held-out digits whose neighbours are counted
QUERIES = 8  # of them are shown
K = 5
COLLECTIONS = ("mnist-train", "mnist-test")
DEFAULT_URL = "redis://127.0.0.1:6379/0"  # where `Twinvec()` looks

# its workers train on MNIST and when they are told to, with servers of their own
_NOT_OF_THE_DEMO = (
    "TWINVEC_DATA",
    "TWINVEC_TRAIN_CRON",
    "TWINVEC_BROKER_URL",
    "TWINVEC_DATABASE_URL",
    "TWINVEC_PREFIX",
)


def demo(
    seed: Annotated[int | None, typer.Option(min=0, help="Of the training; the number of towers so far.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop everything at the end; the data stays.")] = False,
    json: Json = False,
) -> None:
    """Show the whole of Twinvec on the real MNIST, and leave it running.

    It starts a broker, a database and workers in TWINVEC_HOME, trains a tower on the 60,000 training digits, sends
    all 70,000 through the client, counts their vectors in SQL, looks up the neighbours of pictures that no tower has
    seen, and writes a report with pictures. All of that stays there to be used, until `twinvec down`. Run again, it
    finds its data: the same digits change nothing, and a new tower takes over from the last.

    \b
    Example:
      twinvec demo
      twinvec nearest --key test/00041 --collection mnist-test
      twinvec down
    """
    settings = Settings()
    data = mnist.load(settings.mnist)
    started = time.monotonic()
    home = settings.home
    _claim(home)
    screen = err if json else out
    found = running(home)
    leave = found is not None
    with Interrupts() as interrupts:
        try:
            _heading(screen, "Start a broker, a database and workers")
            broker_url = _without_login((found or _start(home, settings.broker_port)).broker_url)
            shown = _Demo(home, data, seed, screen)
            shown.run(started)
            leave = not stop
        except KeyboardInterrupt:
            err.print("interrupted; the next demo goes on with what is done")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            if not leave:
                interrupts.ending()
                with err.status("stopping workers and servers"):
                    stop_detached(home, grace=5, immediate=lambda: interrupts.immediate)
    if json:
        print_json(shown.facts | {"home": home, "broker_url": broker_url, "running": leave})
    elif leave:
        _tell_how_to_go_on(home, broker_url)
    else:
        out.print(f"Everything is stopped. The data stays in {home}.", markup=False, soft_wrap=True)


def _claim(home: Path) -> None:
    """Mark the home as the demo's. Raises CommandError where something else stands there: a tower would be replaced."""
    mark = home / "made-by-demo"
    if mark.exists():
        return
    if (home / "postgres").exists():
        raise CommandError(
            f"{home} holds an installation that the demo did not make, and whose tower it would replace: "
            f"give the demo a folder of its own, as in `TWINVEC_HOME=.twinvec-demo twinvec demo`"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise CommandError(
            f"cannot write to {home}: {error.strerror}; set TWINVEC_HOME to a folder of your own"
        ) from error


def _start(home: Path, port: int) -> RunFile:
    """Start the stack on the port of the settings, or on a free one where another program has that."""
    if Servers(home, port).port_is_taken():
        err.print(f"port {port} is taken by another program: the demo's broker listens on a free one")
        port = 0
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OF_THE_DEMO}
    with err.status("starting"):
        return start_detached(home, broker_port=port, environment=environment)


def _without_login(url: str) -> str:
    """Where an application finds the demo's broker, which lets it send and read its answers without a password."""
    return f"redis://127.0.0.1:{urlsplit(url).port}/0"


def _tell_how_to_go_on(home: Path, broker_url: str) -> None:
    twinvec = "twinvec" if shutil.which("twinvec") else os.path.relpath(sys.argv[0])
    client = "Twinvec()" if broker_url == DEFAULT_URL else f'Twinvec("{broker_url}")'
    rows = {
        "in Python": client,
        "here": f"{twinvec} nearest --key test/00041 --collection mnist-test",
        "in the browser": f"{twinvec} web",
        "stop it": f"{twinvec} down",
        "data": str(home),
    }
    if broker_url != DEFAULT_URL or "TWINVEC_BROKER_URL" in os.environ:
        rows["elsewhere"] = f"TWINVEC_BROKER_URL={broker_url}"
    out.print("\n[green]It is left running[/], with all of this in it:")
    out.print(key_values(**rows))


class _Demo:
    """The steps, each telling what it did; what they found out is gathered for the table at the end."""

    def __init__(self, home: Path, data: Dataset, seed: int | None, screen: Console) -> None:
        self.settings = Settings(home=home, broker_url=None, database_url=None, prefix=None, data=None)
        self.data, self.seed, self.screen = data, seed, screen
        self.tv = Twinvec(self.settings.broker(), prefix=self.settings.lane_prefix())
        self.logs, self.page = home / "logs", home / "report.html"
        self.found: dict[str, str] = {"data": f"70,000 digits from {data.source}"}
        self.facts: dict[str, Any] = {}

    def run(self, started: float) -> None:
        outcome = self.train()
        self.embed()
        tower = self.await_live(outcome)
        self.verify(tower)
        self.vote()
        self.look_up()
        self.report(tower)
        self.facts["seconds"] = time.monotonic() - started
        self.found["all of it"] = f"{self.facts['seconds']:.0f} s"
        self.heading("What happened")
        self.screen.print(key_values(**self.found))
        self.screen.print(f"\nA report with pictures: {self.page}", markup=False, soft_wrap=True)

    def heading(self, line: str) -> None:
        _heading(self.screen, line)

    def train(self) -> TrainingOutcome:
        """Recipe `notebook`; a training that a killed demo left is gone on with."""
        self.heading("Train the Siamese network on the 60,000 training digits")
        seed = len(self.tv.towers()) if self.seed is None else self.seed
        try:
            job = self.tv.train(recipe="notebook", seed=seed)
        except TrainingRunning:
            running = next(job for job in self.tv.jobs() if job.kind == "train" and not job.final)
            self.screen.print("the training of a demo that was killed goes on; its lease ends within a minute")
            found = self.tv.job(running.id)
            assert isinstance(found, TrainingJob), found
            job = found
        try:
            outcome = follow(job, self.screen.file)
        except KeyboardInterrupt:
            with suppress(TwinvecError):
                job.cancel()  # or the next demo would find it under way
            raise
        accuracy = self.facts["pair_accuracy"] = outcome.metrics["pair_accuracy"]
        self.found["training"] = f"{accuracy:.4f} of the test pairs told apart, after {outcome.seconds:.0f} s"
        return outcome

    def embed(self) -> None:
        """All 70,000 as two bulk jobs through the client, each digit with its key and label."""
        self.heading("Send all 70,000 digits through the client")
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
        self.screen.print(self.found["embedding"])

    def send(self, name: str, images: Uint8, labels: Uint8, known: set[str]) -> int:
        """One bulk job; how many of its pictures were embedded by this call."""
        stream = (
            (f"{name}/{index:05}", Digit(image, label=int(label)))
            for index, (image, label) in enumerate(zip(images, labels, strict=True))
        )
        key = f"{name} digits {self.data.digest}"
        job = self.tv.embed(stream, collection=f"mnist-{name}", idempotency_key=key, progress=True)
        result = job.wait(progress=True)
        if result.failed:
            raise CommandError(f"{result.failed:,} digits were not embedded: see the logs in {self.logs}")
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
                    raise CommandError(f"tower {tower.id} is {tower.status}: see the logs in {self.logs}")
                time.sleep(0.2)
        if outcome.status == "candidate":
            seconds = time.monotonic() - start
            self.found["taking over"] = f"{tower.embedded:,} vectors under the new tower, live {seconds:.1f} s later"
        return tower

    def verify(self, tower: Tower) -> None:
        """Count in SQL, not by what the jobs say. Raises CommandError where a digit or a vector is missing."""
        self.heading("Count in SQL")
        expected = len(self.data.train_images) + len(self.data.test_images)
        query = text("""
            SELECT count(*), count(e.digit)
            FROM digits d LEFT JOIN embeddings e ON e.digit = d.id AND e.tower = :tower
            WHERE d.collection = ANY(:collections)
        """)
        engine = connect(self.settings.require_database())
        try:
            with engine.connect() as connection:
                parameters = {"tower": tower.id, "collections": list(COLLECTIONS)}
                digits, vectors = connection.execute(query, parameters).one()
        finally:
            engine.dispose()
        self.facts |= {"tower": tower.id, "digits": digits, "vectors": vectors}
        self.found["in SQL"] = f"{digits:,} digits; {vectors:,} vectors under tower {tower.id}"
        self.screen.print(self.found["in SQL"])
        if (digits, vectors) != (expected, expected):
            raise CommandError(f"SQL holds {digits:,} digits and {vectors:,} vectors; {expected:,} of each were sent")

    def vote(self) -> None:
        """What the nearest training digits say of test digits, which no tower was trained on."""
        self.heading("Look up held-out digits among the 60,000 training digits")
        images, labels = self.data.test_images[:VOTERS], self.data.test_labels[:VOTERS]
        start = time.monotonic()
        answers: list[Answer] = []
        for image in track(images, f"looking up {VOTERS} digits", console=err):
            answers.append(self.tv.nearest(image, k=K, collection="mnist-train"))
        each = 1000 * (time.monotonic() - start) / VOTERS
        right = self.facts["named_right"] = sum(
            _winner(answer) == int(label) for answer, label in zip(answers, labels, strict=True)
        )
        self.found["look-up"] = (
            f"{right} of {VOTERS} held-out digits named right by their {K} nearest; {each:.1f} ms a digit"
        )
        self.screen.print(self.found["look-up"])

    def look_up(self) -> None:
        """Neighbours of test digits and of pictures that are not MNIST's at all, as a table."""
        data = self.data
        asked: list[tuple[str, int, Any]] = [
            (f"test/{index:05}", int(data.test_labels[index]), data.test_images[index]) for index in range(QUERIES)
        ]
        asked += [(f"pen on paper: {digit}", digit, strokes.png(digit)) for digit in strokes.DIGITS]
        rows = table("held-out picture", f"{K} nearest training digits: label and distance", "vote")
        for name, label, picture in asked:
            answer = self.tv.nearest(picture, k=K, collection="mnist-train")
            distances = "   ".join(f"[bold]{each.label}[/] {each.distance:.4f}" for each in answer)
            vote = _winner(answer)
            rows.add_row(name, distances, f"[green]{vote}[/]" if vote == label else f"[red]{vote}, not {label}[/]")
        self.screen.print(rows)

    def report(self, tower: Tower) -> None:
        """A page on the tower, beside the one that was live before it if there is one."""
        self.heading("Write a report")
        before = [each for each in self.tv.towers() if each.status == "previous"]
        write(self.settings, [str(each.id) for each in (*before[:1], tower)], self.page)
        self.facts["report"] = self.page
        self.screen.print(str(self.page), markup=False, soft_wrap=True)


def _winner(answer: Answer) -> int | None:
    """The label that most neighbours have; of equals, the nearest one's."""
    return Counter(neighbour.label for neighbour in answer).most_common(1)[0][0]


def _heading(screen: Console, line: str) -> None:
    screen.print(f"\n[bold]{line}[/]")
