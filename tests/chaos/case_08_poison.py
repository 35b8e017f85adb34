"""Pictures that kill what embeds or decodes them: they alone become failures, after a bounded number of deaths."""

import io
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tests.chaos.fleet import Fleet
from tests.chaos.injected.sitecustomize import DEADLY
from tests.chaos.oracle import judge
from tests.chaos.pictures import Pictures, deadly, digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"batch": 256, "culprits": (1, 3)}
SHORT: dict[str, Any] = {"batch": 16, "culprits": (1,)}

CRASHES = {1: 9, 3: 24}  # at most, by culprits in a batch of 256: one for each part on the way, split in four
# A crash is noticed when its lease has run out: one split takes about this long.
SETTINGS = {"TWINVEC_LEASE": "1.5", "TWINVEC_SWEEP": "0.5", "TWINVEC_REPUBLISH_AFTER": "1"}
CREW = {
    "front": "query,control,express",
    "intake": "intake",
    "embedder-1": "embed,backfill",
    "embedder-2": "embed,backfill",
    "beat": "",
}


def run(*, batch: int, culprits: tuple[int, ...]) -> Result:
    result = Result(case=8, name="pictures that kill", faults="")
    told = []
    with Fleet(CREW, settings=SETTINGS) as fleet:
        for count in culprits:
            crashes = at_the_tower(fleet, result, batch, count)
            told.append(f"{count} in {batch} cost {crashes} processes at the tower")
        deaths = at_intake(fleet, result, batch, max(culprits))
        told.append(f"{max(culprits)} in {batch} cost {deaths} at intake")
    result.faults = f"{sum(culprits)} pictures that kill at the tower, {max(culprits)} at intake"
    result.note = ", ".join(told)
    return result


def at_the_tower(fleet: Fleet, result: Result, batch: int, count: int) -> int:
    """How many processes one batch with so many deadly pictures has cost."""
    pictures, name = noise(batch, seed=count), f"tower-{count}"
    killers = spread(pictures, count)
    pictures |= {key: deadly(seed=at) for at, key in enumerate(killers)}
    before = len(fleet.injection.noted("segfault-tower"))
    job = fleet.application.embed(pictures, collection=name, chunk=batch)
    fleet.ledger.settled(job, within=240)
    crashes = len(fleet.injection.noted("segfault-tower")) - before
    result.require(crashes <= CRASHES[count], f"{crashes} crashes for {count} in {batch}: at most {CRASHES[count]}")
    settle(fleet, result, job, name, pictures, killers)
    return crashes


def at_intake(fleet: Fleet, result: Result, batch: int, count: int) -> int:
    """A picture that kills the process which decodes it costs two of them, and no worker's process."""
    pictures, name = noise(batch, seed=100), "intake"
    killers = spread(pictures, count)
    files: dict[str, Any] = {**pictures, **{key: deadly_file(seed=at) for at, key in enumerate(killers)}}
    job = fleet.application.embed(files, collection=name, chunk=batch)
    fleet.ledger.settled(job, within=240)
    pids = [note.pid for note in fleet.injection.noted("segfault-decoder")]
    result.require(len(pids) == 2 * count, f"{len(pids)} decoders died of {count} pictures in one chunk")
    settle(fleet, result, job, name, pictures, killers)
    kept = {failure.key: failure.picture for failure in fleet.application.failures(job, pictures=True)}
    result.require(kept == {key: files[key] for key in killers}, "the pictures that kill are not kept to look at")
    return len(pids)


def settle(fleet: Fleet, result: Result, job: str, collection: str, pictures: Pictures, killers: list[str]) -> None:
    """Judge one job: the killers are its failures, as poison, and all else is embedded."""
    sound = digests({key: glyph for key, glyph in pictures.items() if key not in killers})
    poison = dict.fromkeys(killers, "poison")
    verdict = judge(fleet, sound, failing=poison, collection=collection)
    verdict.write(result)
    result.images = (result.images or 0) + len(pictures)
    reasons = {failure.key: failure.reason for failure in fleet.application.failures(job)}
    result.require(reasons == poison, f"{collection}: the client lists the failures {reasons}")
    alive = len(pictures) - len(killers)
    result.require(verdict.embedded == alive, f"{collection}: {verdict.embedded} of {alive} embedded")


def spread(pictures: Pictures, count: int) -> list[str]:
    """Keys far from one another: each is isolated on a path of its own, which costs most."""
    keys = list(pictures)
    return [keys[at * len(keys) // 4 + 1] for at in range(count)]


def deadly_file(seed: int) -> bytes:
    """A sound PNG that no decoder survives, by the mark in its text."""
    text = PngImagePlugin.PngInfo()
    text.add(b"teXt", DEADLY)
    file = io.BytesIO()
    glyph = np.random.default_rng(seed).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(glyph).save(file, "PNG", pnginfo=text)
    return file.getvalue()
