"""What of the samples is judged, by which rule, and the tables of that for docs/reliability.md. It must not measure."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from local.child import SERVICES
from local.servers.logs import KEPT, LARGEST
from tests.soak.samples import MB, TABLES, Numbers
from tests.soak.soak import Soak
from tests.soak.trend import CERTAIN, SHOWN, Trend, trend

COLUMNS = ("what", "of", "first", "middle", "last", "slope an hour", "")
WAL = (4 * 2**30 + 4 * 16 * 2**20) / MB  # `max_wal_size` of the embedded PostgreSQL, and some segments: it is soft
OPEN_FILES = 1000.0 * 20  # `max_files_per_process`, of as many processes: PostgreSQL closes none before
REWRITTEN = 2 * 64 * 2**20 / MB  # Valkey rewrites its append-only file from 64 MiB on, when it has doubled


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table. read: its number in a sample. slight: a slope that is no growth, or share of the median."""

    what: str
    of: str
    read: Callable[[Numbers], float]
    slight: float = 0.0
    share: float = 0.0
    limit: float | None = None


def lines(soak: Soak) -> Iterator[Line]:
    """Everything that must not grow."""
    for name in (*soak.steady, *SERVICES):
        of = f"{name}, never killed" if name in soak.steady else name
        yield Line(what="resident MB", of=of, read=total("resident", name, f"{name}: pool"), slight=1.0)
    for name in ("supervisor", "Valkey", "PostgreSQL"):
        yield Line(what="resident MB", of=name, read=total("resident", name), slight=1.0)
    yield Line(what="resident MB", of="all, with pages of files", read=total("resident", "all"), slight=math.inf)
    # The application remembers the id of every job, and all that was measured.
    yield Line(what="resident MB", of="application", read=total("resident", "application"), slight=5.0)
    pools = [each for name in soak.steady for each in (name, f"{name}: pool")]
    others = [each for name in SERVICES for each in (name, f"{name}: pool")]
    for what in ("processes", "descriptors", "threads"):
        for of, names in {"workers, never killed": pools, "workers": others}.items():
            yield Line(what=what, of=of, read=total(what, *names), slight=1.0)
        for name in ("supervisor", "Valkey", "PostgreSQL", "application"):
            if what == "descriptors" or name == "PostgreSQL":
                limit = OPEN_FILES if (what, name) == ("descriptors", "PostgreSQL") else None
                yield Line(what=what, of=name, read=total(what, name), slight=1.0, share=0.01, limit=limit)
    for of in ("Redis", "PostgreSQL"):
        yield Line(what="connections", of=of, read=total(of, "connections"), slight=1.0)
    yield Line(what="used MB", of="Redis", read=total("Redis", "used MB"), slight=0.5, share=0.01)
    yield Line(what="keys", of="Redis", read=total("Redis", "keys"), slight=10, share=0.01)
    yield from _tables(soak)
    yield from _files(soak)
    yield Line(what="not judged", of="look-up, median ms", read=total("look-up", "median ms"), slight=math.inf)
    yield Line(what="not judged", of="load average", read=lambda sample: sample["load average"], slight=math.inf)


def _tables(soak: Soak) -> Iterator[Line]:
    for table in TABLES:
        yield Line(what="table MB", of=table, read=total("table", f"{table} MB"), slight=0.5, share=0.01)
        yield Line(what="indexes MB", of=table, read=total("indexes", f"{table} MB"), slight=0.5, share=0.01)
        rows = "live rows" if table == "embeddings" else "counted rows"
        limit = max(1.0, soak.towers) if table == "towers" else None  # its rows stay: one each training
        yield Line(what="rows", of=table, read=total(rows, table), slight=10, share=0.01, limit=limit)
        yield Line(what="dead rows", of=table, read=total("dead rows", table), slight=250, share=0.05)
    yield Line(what="tables and partitions", of="embeddings", read=total("relations", "embeddings"), slight=0.5)


def _files(soak: Soak) -> Iterator[Line]:
    count = len(SERVICES) + len(soak.steady) + 3  # logs: of the servers and of the supervisor as well
    logs = count * LARGEST * (KEPT + 1) / MB
    limits = {"PostgreSQL's log": WAL, "broker's file": REWRITTEN, "logs": logs}
    for of in ("PostgreSQL's data", "PostgreSQL's log", "broker's file", "logs", "temporary folders", "rest of home"):
        limit = limits.get(of)
        yield Line(what="files MB", of=of, read=total("bytes", f"{of} MB"), slight=0.5, share=0.01, limit=limit)
        if limit is None:
            yield Line(what="files", of=of, read=total("files", of), slight=2.0, share=0.01)


def total(what: str, *names: str) -> Callable[[Numbers], float]:
    """The sum of numbers of a sample; those of a process that is not there are 0."""
    return lambda sample: sum(sample.get(f"{what}/{name}", 0.0) for name in names)


def judged(soak: Soak) -> list[tuple[Line, Trend]]:
    """Every line with how it went after the warm-up."""
    samples = [each for each in soak.samples if each["time"] - soak.started >= 60 * soak.warm_up]
    times = [each["time"] for each in samples]
    found = []
    for line in lines(soak):
        values = [line.read(each) for each in samples]
        slight = max(line.slight, line.share * statistics.median(values))
        found.append((line, trend(times, values, slight=slight, limit=line.limit)))
    return found


def markdown(soak: Soak) -> str:
    """For docs/reliability.md: what was done, what came of it, the rule, and the table."""
    rows = [f"| {' | '.join(COLUMNS)} |", "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    before = ""
    for line, found in judged(soak):
        numbers = [_number(value) for value in (found.first, found.middle, found.last, found.slope)]
        what = "" if line.what == before else line.what
        rows.append(f"| {' | '.join([what, line.of, *numbers, _verdict(found)])} |")
        before = line.what
    return "\n".join([*_told(soak), "", *rows, ""])


def _told(soak: Soak) -> list[str]:
    counts = soak.counts
    kills = ", ".join(f"{count} {what if count == 1 else _plural(what)}" for what, count in sorted(soak.kills.items()))
    other = "; ".join(f"{count:,} {what}" for what, count in sorted(counts.items()) if what not in _SHOWN)
    return [
        f"{soak.seconds / 60:.0f} minutes at {soak.rate:,.0f} digits a second, a tenth of the {soak.full_load:,.0f} a "
        f"second at which the same stack, on the same machine and beside the same other work, replaced "
        f"{soak.keys:,} stored digits without a pause just before. {counts['digits sent']:,} digits were sent in "
        f"{counts['jobs finished']:,} jobs, {counts['failures']:,} files that cannot be read among them; "
        f"{soak.towers} towers were trained and went live; {counts['queries']:,} queries were answered; SIGKILL for "
        f"{kills}, which worked again after {statistics.median(soak.recovery):.0f} s at the median and "
        f"{max(soak.recovery):.0f} s at the longest. Also counted: {other}. **{soak.lost} digits lost, {soak.twice} "
        f"twice, {soak.wrong} wrong.** `doctor` was asked every minute, before the next kill, and found "
        f"{'no problem' if not soak.doctor else f'a problem {len(soak.doctor)} times'}; asked while all workers of the "
        f"lane `intake` were stopped, it said so. Kept for {soak.keep:g} minutes: ended jobs, and the files of retired "
        f"towers; for half of that the pictures of failures. The load average of the machine was "
        f"{_loads(soak.samples)}: above 2, other work took its share.",
        "",
        f"First, middle and last are medians of {SHOWN} samples, one a minute, from minute {soak.warm_up:g} on: until "
        f"then caches fill, and each process comes to hold the three towers that it keeps. The slope is Theil and "
        f"Sen's. *Flat* is what does not rise by more than chance (Mann and Kendall's test, p < {CERTAIN:g}), or by "
        f"less than 1 MB an hour of a process, 1 of a count, 1 % of a size and half a MB, or 5 % of dead rows and 250 "
        f"of them.",
    ]


_SHOWN = ("digits sent", "jobs finished", "failures", "queries", "digits embedded", "digits unchanged")


def _plural(what: str) -> str:
    return f"{what}es" if what.endswith("s") else f"{what}s"


def _loads(samples: Sequence[Numbers]) -> str:
    loads = sorted(each["load average"] for each in samples)
    return f"{statistics.median(loads):.1f} at the median, {loads[0]:.1f} to {loads[-1]:.1f}"


def _verdict(found: Trend) -> str:
    if found.limit is not None:
        return f"OVER {found.limit:,.0f}" if found.grows else f"at most {found.limit:,.0f}"
    return "" if found.slight == math.inf else "GROWS" if found.grows else "flat"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.1f}"
