"""The screen of `twinvec top` fits the terminal, and says what is paused and that nothing newer is known."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from cli.display.dashboard import View, duration, screen
from twinvec_client import JobStatus, Lane, Overview, Pause, Tower, TrainingProgress, Worker

NOW = "2026-11-28T03:15:44+00:00"
PAUSED = Pause("ada@desk", NOW, "[red]a new disk[/]", "embed")
JOB = JobStatus(
    id="56ed9133-0000-4000-8000-000000000001",
    kind="embed",
    collection="cheques [bold]",
    state="running",
    total=6001,
    accepted=6001,
    succeeded=1500,
    unchanged=0,
    failed=0,
    cancelled=0,
    created_at=NOW,
    seconds=15.0,
    message=None,
    progress=None,
    outcome=None,
)
SEEN = Overview(
    at=NOW,
    live_tower="ab" * 32,
    backlog=1234,
    rate=99.6,
    lanes=[
        Lane("query", 0, None, None, None, None, True),
        Lane("intake", 7, 2, None, None, 3.0, False),
        Lane("embed", 12, 34, 1, 99.6, 130.0, True, PAUSED),
    ],
    workers=[Worker("embedder@vm", "vm", 7, ["embed"], NOW, 1.0, "twinvec.embed: batch 3 of job 56ed9133", 2**29)],
    jobs=[JOB],
)
TOWER = Tower(1, "ab" * 32, "live", "quick", 0, {}, 0.5, NOW, embedded=60, due=3)


def drawn(view: View, width: int = 80, height: int | None = None) -> list[str]:
    file = StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False).print(
        screen(view, width=width, height=height)
    )
    return file.getvalue().splitlines()


def line(lines: list[str], word: str) -> str:
    return next(each for each in lines if word in each)


def test_each_part_has_its_line() -> None:
    lines = drawn(View(SEEN, [TOWER]))
    assert "backlog 1,234   100 digits/s   1 workers   live tower abab" in lines[0]
    assert line(lines, "embed  ").split() == ["embed", "12", "34", "1", "100", "2", "min", "paused"]
    assert line(lines, "intake").split() == ["intake", "7", "2", "3", "s", "no", "worker"]
    assert "the lane embed is paused, by ada@desk since 2026-11-28 03:15 UTC: [red]a new disk" in "\n".join(
        drawn(View(SEEN), 120)
    )
    assert line(lines, "embedder").split() == ["embedder", "512", "MB", "embed:", "batch", "3"]
    assert "1,500/6,001   about 45 s left" in line(lines, "56ed9133")
    assert lines[-1].split() == ["1", "live", "60", "3", "abababababab", "quick"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 15), (40, 24), (200, 60)])
def test_it_fits_however_much_there_is(width: int, height: int) -> None:
    many = replace(
        SEEN,
        workers=SEEN.workers * 40,
        jobs=[replace(JOB, id=f"{at:08}-0000-4000-8000-000000000001") for at in range(40)],
        lanes=[replace(lane, name=name) for lane, name in zip(SEEN.lanes * 3, "abcdefg", strict=False)],
    )
    lines = drawn(View(many, [TOWER] * 3, "embed", "embed is paused", "gone", 9.0, keys=True), width, height)
    assert max(map(len, lines)) <= width
    if height >= 24:
        assert len(lines) <= height
        assert "more workers" in "\n".join(lines)
        assert "more jobs" in "\n".join(lines)
    assert lines[-1].startswith("q leave")


def test_that_nothing_newer_is_known_is_said_first() -> None:
    lines = drawn(View(SEEN, error="no broker at redis://127.0.0.1", silent=12.4))
    assert lines[1] == "no answer for 12 s, what is shown is as old: no broker at redis://127.0.0.1"


def test_a_training_shows_its_epochs() -> None:
    progress = TrainingProgress(3, 10, 5, 50, {}, 8.0, 200.0)
    training = replace(JOB, kind="train", collection=None, total=None, progress=progress)
    lines = drawn(View(replace(SEEN, jobs=[training])))
    assert "epoch 3/10   about 3 min left" in line(lines, "56ed9133")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (130, "2 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_times_are_short(seconds: float, said: str) -> None:
    assert duration(seconds) == said
