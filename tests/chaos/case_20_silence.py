"""Every connection falls silent in the middle of a job: what is sent is swallowed, nothing is closed, new ones work."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.application import Application
from tests.chaos.case_04_database import Share
from tests.chaos.doctor import ask_doctor
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result
from tests.silence import Proxy
from twinvec_client import Twinvec

LONG: dict[str, Any] = {"digits": 6_400, "rounds": 5}
SHORT: dict[str, Any] = {"digits": 320, "rounds": 0}

WITHIN = 30.0  # seconds from the silence to the next finished batch, whatever fell silent; with the product's defaults


def run(*, digits: int, rounds: int) -> Result:
    faults = (
        f"{rounds} times every connection to the database, to the broker, to both"
        if rounds
        else "once every connection"
    )
    result = Result(case=20, name="connections fall silent", faults=faults, images=digits)
    pictures, silences, answers = noise(digits), [], []
    with ThreadPoolExecutor() as pool, Silenced() as fleet:
        fleet.injection.slow_down(0.3)
        sent = Share(digits)
        sending = fleet.application.embedding(pictures, pace=sent.wait)
        steps = [(fleet.to_database,), (fleet.to_broker,), (fleet.to_database, fleet.to_broker)] * rounds or [
            (fleet.to_database, fleet.to_broker)
        ]
        for at, proxies in enumerate(steps):
            sent.grow((at + 1) / len(steps))
            more = fleet.ledger.done() + 1
            fleet.until(partial(fleet.ledger.reaches, more), "the next batch", within=60)
            for proxy in proxies:
                proxy.swallow()
            silences.append(fleet.faults.note("silent"))
            patience = WITHIN if rounds else 2 * WITHIN  # the short form runs beside other tests
            answered = pool.submit(ask, fleet.broker_url(), patience)  # a caller meanwhile
            if rounds:
                ask_doctor(fleet).judge(result, "silent")
            fleet.until(lambda: next_finish(fleet, silences[-1:]), "a batch after the silence", within=60)
            answers.append(answered.result(3 * WITHIN))
        fleet.ledger.settled(sending.result())
        result.recovery = next_finish(fleet, silences)
        judge(fleet, digests(pictures)).write(result)
        result.extra_work = extra_work(fleet)
    result.note = (
        "nothing is closed and new connections work; recovery is the time to the next finished batch; a caller that "
        f"asked meanwhile was answered after {median(answers):.1f} / {max(answers):.1f} s"
    )
    late = [seconds for seconds in result.recovery if seconds > WITHIN]
    result.require(not late, f"resumed late: {late} s")
    return result


def ask(broker_url: str, patience: float) -> float:
    """Seconds until a call is answered."""
    start = time.monotonic()
    Twinvec(broker_url, answer_timeout=patience).jobs()
    return time.monotonic() - start


class Silenced(Fleet):
    """A fleet whose members and clients reach its servers through proxies."""

    def __init__(self) -> None:
        self.proxies = ExitStack()
        super().__init__()

    def _start(self) -> None:
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        self.broker.start()
        self.database.start()
        folder = self.database.url.partition("host=")[2].partition("&")[0]
        socket = next(Path(folder).glob(".s.PGSQL.*[0-9]"))
        self.to_database = self.proxies.enter_context(Proxy(socket))
        self.to_broker = self.proxies.enter_context(Proxy(urlsplit(self.broker.url).port or 0))
        place: Any = SimpleNamespace(url=self.broker_url())
        self.application = Application(place)
        super()._start()

    def stop(self) -> None:
        super().stop()
        self.proxies.close()

    def broker_url(self) -> str:
        return f"redis://127.0.0.1:{self.to_broker.port}/0"

    def environment(self, name: str) -> dict[str, str]:
        return super().environment(name) | {
            "TWINVEC_BROKER_URL": self.broker_url(),
            "TWINVEC_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{self.to_database.port}/postgres",
        }
