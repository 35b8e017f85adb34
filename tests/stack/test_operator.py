"""The operator's commands against a running stack: what they print, and what their exit status says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.stack.conftest import Stack

Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def folder(digits: Digits, tmp_path: Path) -> Path:
    """A folder `7` with three digits, and beside it a file that is not a picture."""
    images, _labels = digits
    (tmp_path / "7").mkdir()
    for index in range(3):
        Image.fromarray(images[index]).save(tmp_path / "7" / f"{index}.png")
    (tmp_path / "note.txt").write_text("no picture")
    return tmp_path


def test_embed_names_what_failed_and_says_so_in_its_exit_status(stack: Stack, tower: Any, folder: Path) -> None:
    done = stack.command("embed", str(folder), "--collection", "cli", "--label-from-folder", "--json", check=False)
    assert done.returncode == 3
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["succeeded"], answer["failed"]) == ("finished_with_failures", 3, 1)
    assert answer["failures"][0]["key"] == f"{folder}/note.txt"

    failures = json.loads(stack.command("failures", answer["job"], "--json").stdout)
    assert [(failure["key"], failure["reason"]) for failure in failures] == [(f"{folder}/note.txt", "not_a_picture")]
    shown = stack.command("job", answer["job"], "--json", check=False)
    assert (shown.returncode, json.loads(shown.stdout)["failed"]) == (3, 1)
    assert "finished_with_failures" in stack.command("job", answer["job"], check=False).stdout
    assert answer["job"] in [job["id"] for job in json.loads(stack.command("jobs", "--json").stdout)]


def test_embedding_the_same_folder_again_leaves_everything_unchanged(stack: Stack, tower: Any, folder: Path) -> None:
    once = json.loads(stack.command("embed", str(folder / "7"), "-c", "again", "--json").stdout)
    twice = json.loads(stack.command("embed", str(folder / "7"), "-c", "again", "--json").stdout)
    assert (once["succeeded"], once["unchanged"]) == (3, 0)
    assert (twice["succeeded"], twice["unchanged"]) == (0, 3)


def test_a_picture_and_its_key_find_their_neighbours(stack: Stack, tower: Any, folder: Path) -> None:
    stack.command("embed", str(folder / "7"), "-c", "near", "--label-from-folder")
    picture = f"{folder}/7/1.png"
    by_picture = json.loads(stack.command("nearest", picture, "-k", "1", "-c", "near", "--json").stdout)
    assert by_picture["neighbours"][0]["key"] == picture
    assert by_picture["neighbours"][0]["label"] == 7
    by_key = json.loads(stack.command("nearest", "--key", picture, "-c", "near", "--json").stdout)
    assert picture not in [neighbour["key"] for neighbour in by_key["neighbours"]]
    first = ("nearest", picture, "-k", "1", "-c", "near", "-c", "elsewhere", "--label", "7")
    after = json.loads(stack.command(*first, "--json").stdout)["next"]
    following = json.loads(stack.command(*first, "--after", after, "--json").stdout)
    assert following["neighbours"][0]["key"] in {f"{folder}/7/{name}.png" for name in ("0", "1", "2")} - {picture}
    assert "nothing is stored there" in stack.command("nearest", picture, "-c", "near", "--label", "8").stderr
    refused = stack.command("nearest", picture, "--attributes", "{", check=False)
    assert (refused.returncode, "not a JSON object" in refused.stderr) == (2, True)
    assert "no other is nearer" in stack.command("nearest", picture, "-c", "near").stdout


def test_towers_lists_the_live_one(stack: Stack, tower: dict[str, Any]) -> None:
    listed = json.loads(stack.command("towers", "--json").stdout)
    assert tower["fingerprint"] in [each["fingerprint"] for each in listed]
    assert "live" in stack.command("towers").stdout


@pytest.mark.parametrize("command", ["job", "failures", "cancel"])
def test_an_unknown_job_is_one_sentence(stack: Stack, command: str) -> None:
    refused = stack.command(command, "0b9f3c52-0c8e-4b62-8c0e-0e4ed1a2a6d1", check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "0b9f3c52" in refused.stderr


def test_cancelling_a_finished_job_leaves_it_as_it_is(stack: Stack, tower: Any, folder: Path) -> None:
    job = json.loads(stack.command("embed", str(folder / "7"), "-c", "done", "--json").stdout)["job"]
    assert json.loads(stack.command("cancel", job, "--json").stdout)["state"] == "finished"


def test_a_job_is_meant_by_its_beginning_and_the_newest_as_last(stack: Stack, tower: Any, folder: Path) -> None:
    job = json.loads(stack.command("embed", str(folder / "7"), "-c", "short", "--json").stdout)["job"]
    assert json.loads(stack.command("job", job[:8], "--json").stdout)["id"] == job
    newest = json.loads(stack.command("jobs", "-n", "1", "--json").stdout)[0]["id"]
    assert json.loads(stack.command("job", "last", "--json").stdout)["id"] == newest
    refused = stack.command("cancel", job[:3], check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "4 characters" in refused.stderr
    fingerprint = tower["fingerprint"]
    shown = json.loads(stack.command("tower", fingerprint[:12], "--json").stdout)
    assert shown["fingerprint"] == fingerprint
