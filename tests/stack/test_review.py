"""What people see of stored digits: matches, suspects, duplicates and maps, under a tower that a worker has trained."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.stack.conftest import Stack, until

COLLECTION = "review"
WRONG, TWICE = "wrong", "twice"


@pytest.fixture(scope="module")
def stored(stack: Stack, digits: tuple[np.ndarray, np.ndarray], tower: Any) -> dict[str, int]:
    """Keys and true labels of 200 digits, one stored with a wrong label and one under a second key as well."""
    client = stack.client()
    trained = client.train(recipe="quick", seed=3).wait(timeout=120)
    images, labels = digits
    images = images - (images > 100).astype(np.uint8)  # no other test has stored these, so that their pairs are here
    truth = {f"digit {at}": int(labels[at]) for at in range(200)}
    pictures = {f"digit {at}": images[at] for at in range(200)}
    # The wrong one is a digit that a neighbour was put beside: its own picture, under its right label.
    pictures |= {TWICE: images[1], WRONG: images[0]}
    truth |= {TWICE: truth["digit 1"], WRONG: truth["digit 0"]}
    given = truth | {WRONG: (truth["digit 0"] + 1) % 10}
    client.embed(pictures, collection=COLLECTION, labels=given).wait(timeout=60)
    until(lambda: live(stack) == trained.tower, "the tower went live", within=120)
    return truth


def live(stack: Stack) -> int:
    return next(tower.id for tower in stack.client().towers() if tower.status == "live")


def ask(stack: Stack, *arguments: str) -> Any:
    return json.loads(stack.command(*arguments, "--json").stdout)


def on_a_terminal(stack: Stack, *arguments: str, columns: int = 80, keys: str = "") -> str:
    """What the command writes to a terminal so wide. keys: that are pressed, ahead of what asks for them."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in stack.environment.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "cli", *arguments]
    process = subprocess.Popen(
        command, env=environment | {"TERM": "xterm-256color"}, stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.write(ours, keys.encode())
    os.close(theirs)
    written = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not some:
            break
        written += some
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return written.decode()


def plain(written: str) -> list[str]:
    """Its lines, as they are seen."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).splitlines()


@pytest.fixture(scope="module")
def picture(digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a digit that is not stored."""
    path = tmp_path_factory.mktemp("pictures") / "unknown.png"
    Image.fromarray(digits[0][250]).save(path)
    return path


def test_a_match_says_which_digit_it_is_and_how_probable_that_is(
    stack: Stack, stored: dict[str, int], digits: tuple[np.ndarray, np.ndarray]
) -> None:
    right, probabilities = 0, []
    for at in range(200, 240):
        answer = stack.client().nearest(digits[0][at], collection=COLLECTION, match=True, k=1)
        assert answer.match is not None
        assert answer.match.matched == (not answer.far and not answer.doubtful)
        right += answer.match.label == digits[1][at]
        probabilities.append(answer.match.probability or 0.0)
    assert right >= 30
    assert 0.5 < np.mean(probabilities) <= 1


def test_a_stranger_does_not_match(stack: Stack, stored: dict[str, int]) -> None:
    live = stack.client().nearest(key=next(iter(stored)), collection=COLLECTION).tower
    far = stack.client().nearest(vector=[1000.0] * 128, tower=live, collection=COLLECTION, match=True)
    assert far.far
    assert far.match is not None
    assert (far.match.matched, far.match.label, far.match.probability) == (False, None, None)


def test_on_a_terminal_neighbours_are_pictures_side_by_side(
    stack: Stack, stored: dict[str, int], picture: Path
) -> None:
    written = on_a_terminal(stack, "nearest", str(picture), "-c", COLLECTION, "--match")
    lines = plain(written)
    assert "38;5;" in written or "38;2;" in written
    assert max(map(len, lines)) <= 80
    assert max(line.count("  ") for line in lines if "▀" in line) >= 2
    text = " ".join(" ".join(lines).split())
    assert "asked for" in text
    assert f"{COLLECTION}:" in text
    assert "with probability" in text


def test_piped_the_neighbours_are_a_table(stack: Stack, stored: dict[str, int], picture: Path) -> None:
    shown = stack.command("nearest", str(picture), "-c", COLLECTION, "-k", "3", "--match").stdout
    assert not set(shown) & set("▀█▓▒░\x1b")
    assert "rank" in shown
    assert len([line for line in shown.splitlines() if COLLECTION in line]) == 3


def test_beyond_a_distance_there_is_no_match(stack: Stack, stored: dict[str, int], picture: Path) -> None:
    shown = stack.command("nearest", str(picture), "-c", COLLECTION, "--match", "--within", "0.000001")
    assert "no match" in shown.stdout
    assert "within 1e-06" in shown.stderr


def test_a_wrong_label_is_the_first_suspect(stack: Stack, stored: dict[str, int]) -> None:
    found = ask(stack, "suspects", "-c", COLLECTION, "-n", "50")
    assert (found["looked_at"], found["complete"]) == (len(stored), True)
    by_key = {suspect["key"]: suspect for suspect in found["suspects"]}
    assert by_key[WRONG]["elected"] == stored[WRONG] != by_key[WRONG]["label"]
    assert by_key[WRONG]["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-6)
    probabilities = [suspect["probability"] for suspect in found["suspects"]]
    assert probabilities == sorted(probabilities, reverse=True)
    shown = stack.command("suspects", "-c", COLLECTION, "-n", "50").stdout
    assert WRONG in shown
    assert f"{len(stored)} labels looked at" in shown
    assert ask(stack, "suspects", "-c", COLLECTION, "--most", "5")["complete"] is False


def test_a_picture_that_is_stored_twice_is_a_pair(stack: Stack, stored: dict[str, int]) -> None:
    found = ask(stack, "duplicates", "-c", COLLECTION, "-n", "100")
    exact = [{pair["key"], pair["other"]["key"]} for pair in found["pairs"] if pair["same_pixels"]]
    assert sorted(map(sorted, exact)) == [["digit 0", WRONG], ["digit 1", TWICE]]
    distances = [pair["other"]["distance"] for pair in found["pairs"]]
    assert distances == sorted(distances)
    assert all(distance <= found["distance"] for distance in distances)
    shown = stack.command("duplicates", "-c", COLLECTION, "--within", "0").stdout
    assert "same" in shown
    assert TWICE in shown
    drawn = plain(on_a_terminal(stack, "duplicates", "-c", COLLECTION, "--within", "0", "--pictures"))
    assert any("▀" in line for line in drawn)


def test_a_map_is_a_picture_of_the_collection(stack: Stack, stored: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    found = ask(stack, "map", "-c", COLLECTION, "--out", str(path))
    assert {point["key"] for point in found["points"]} == set(stored)
    assert 0 < sum(found["explained"]) <= 1
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10
    assert f"{len(stored)} digits" in stack.command("map", "-c", COLLECTION, "-o", str(path)).stdout


@pytest.mark.parametrize(
    "arguments",
    [("map", "-o", "map.jpg"), ("map", "-c", "none such"), ("map", "-o", "/no/such/folder/map.png")],
    ids=" ".join,
)
def test_a_map_that_cannot_be_drawn_is_one_sentence(stack: Stack, stored: dict[str, int], arguments: list[str]) -> None:
    refused = stack.command(*arguments, check=False)
    assert refused.returncode in (1, 2)
    assert "Traceback" not in refused.stderr


def test_a_collection_of_which_nothing_is_stored_has_no_suspects_and_no_pairs(
    stack: Stack, stored: dict[str, int]
) -> None:
    assert ask(stack, "suspects", "-c", "none such")["suspects"] == []
    assert ask(stack, "duplicates", "-c", "none such")["pairs"] == []


def test_pairs_are_judged_by_single_keys(stack: Stack, stored: dict[str, int]) -> None:
    """The first of them are one picture under two labels; a key that means nothing is passed over."""
    keys = "ssu dxq"  # same; same and taken back; skipped; different; quit
    written = "\n".join(plain(on_a_terminal(stack, "judge", "-c", COLLECTION, "--by", "tester", keys=keys)))
    assert "labels differ" in written
    assert "near the threshold" in written
    assert "2 pairs judged" in written
    first, second = ask(stack, "judgements", "-c", COLLECTION)
    assert {first["key"], first["other_key"]} == {"digit 0", WRONG}
    assert [(each["same"], each["by"]) for each in (first, second)] == [(True, "tester"), (False, "tester")]
    again = "\n".join(plain(on_a_terminal(stack, "judge", "-c", COLLECTION, "-n", "3", keys="\x1b[D   ")))
    assert "0 pairs judged" in again, "an arrow key is none of these"
    shown = stack.command("judge", WRONG, "digit 0", "-c", COLLECTION, "--forget").stdout
    assert "not judged any more" in shown
    stack.command("judge", WRONG, "digit 0", "-c", COLLECTION, "--different")
    assert [each["same"] for each in ask(stack, "judgements", "-c", COLLECTION)] == [False, False]


@pytest.mark.parametrize(
    "arguments",
    [(), ("digit 1", TWICE), ("digit 1", TWICE, "--same", "--forget"), ("a", "b", "--same")],
    ids=" ".join,
)
def test_what_cannot_be_judged_is_one_sentence(
    stack: Stack, stored: dict[str, int], arguments: tuple[str, ...]
) -> None:
    refused = stack.command("judge", "-c", COLLECTION, *arguments, check=False)
    assert (refused.returncode in (1, 2), refused.stderr.count("\n")) == (True, 1)
