"""Send chunks of new digits through every stage of the bulk path, all through one before the next begins; the medians.

They are of a second walk: in the first, the memory and files of all processes are new to the machine, which costs more.
A figure is [wall, CPU of this process, CPU of broker and database], in microseconds a digit. Those of the limits are of
the same rows and bytes, moved by nothing but what is named.
"""

import hashlib
import os
import uuid
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
import redis
from celery import Celery
from kombu import Message, Queue
from PIL import Image
from sqlalchemy import text

import db.queue.finish
import db.queue.intake
import db.vectors.embeddings
import tasks.intake
from benchmarks.digits import digits, encoded
from benchmarks.limits import copy_again, multiply, settle
from benchmarks.meter import Meter
from benchmarks.processes import tell, told
from db.digits import Glyphs, pixels_of
from db.queue.intake import Submission
from db.queue.leases import Lease
from training.model.siamese import scaled
from training.model.storage import load
from training.pictures.read import read_picture
from twinvec_client import chunks as cutting
from twinvec_client.connection import Connection
from twinvec_client.contract.broker import KEY_PREFIX, SERIALIZER
from twinvec_client.contract.messages import EmbedBatch, Intake
from twinvec_client.contract.packing import pack, unpack
from worker.celeryconfig import celery_config
from worker.runtime import Runtime
from worker.settings import Settings

os.environ["TWINVEC_LANES"] = "embed"  # whose workers run towers by Keras's backend
task = told()
place, count, turns = task["place"], task["count"], task["repetitions"] + 1
settings = Settings(broker_url=place.broker_url, database_url=place.database_url)
runtime = Runtime(settings)
runtime.warm_up()
matrices = [weights for weights in load(Path(place.tower_file).read_bytes()).get_weights() if weights.ndim == 2]
broker = redis.Redis.from_url(place.broker_url)
postgres = psycopg.connect(place.database_url.replace("postgresql+psycopg", "postgresql"), autocommit=True)
postmaster = psutil.Process(postgres.info.backend_pid).parent()
assert postmaster is not None
meter = Meter([psutil.Process(broker.info("server")["process_id"]), postmaster, *postmaster.children()])
pictures = [digits(start, start + count) for start in range(0, turns * count, count)]
files = [file for _, file in encoded(count)]


def walk() -> int:
    """Everything once; the mean size of a chunk's packed glyphs, in bytes."""
    with meter.parts(pack=(cutting, "pack")):
        intakes = meter.each("cut", cut, pictures)
    glyphs = [images.tobytes() for images in pictures]
    frames = meter.each("cut_limit", lambda pixels: (hashlib.blake2b(pixels).digest(), pack(pixels))[1], glyphs)

    arrived = through_broker("chunk", intakes)
    through_broker("message", [EmbedBatch(batch=number) for number in range(turns)])

    with meter.parts(unpack=(tasks.intake, "unpack")):
        submissions = meter.each("read_chunk", read, arrived)
    meter.each("unpack_limit", lambda frame: unpack(frame, count), frames)
    settle(postgres)
    commit = (runtime.engine.dialect, "do_commit")
    copy, keys, digests = ((db.queue.intake, name) for name in ("copy_digits", "fetch_each", "digests_of"))
    with meter.parts(submit_keys=keys, submit_plan=digests, submit_copy=copy, submit_commit=commit):
        batches = meter.each("submit", submit, submissions)
    meter.each("plan_limit", lambda pixels: hashlib.sha256(pixels).digest(), glyphs)

    leases = meter.each("claim", runtime.claim, batches)
    meter.each("claim_limit", lambda _: runtime.transact(lambda session: session.execute(text("SELECT 1"))), leases)
    found = meter.each("read_pixels", pixels, leases)
    made = meter.each("tower", lambda stored: runtime.towers[place.tower](stored[1]), found)
    settle(postgres)
    asked = (db.queue.finish, "fetch_each")
    copy = (db.vectors.embeddings, "copy_embeddings")
    with meter.parts(finish_asked=asked, finish_copy=copy, finish_commit=commit):
        stored = meter.each("finish", finish, list(zip(leases, found, made, strict=True)))
    if stored != [count] * turns:
        raise SystemExit(f"{turns} batches of {count} digits were sent; stored are {stored}")

    copy_again(postgres, meter, leases)
    meter.each("png", lambda _: [read_picture(file) for file in files], range(turns))
    meter.each("png_limit", lambda _: [np.asarray(Image.open(BytesIO(file)).convert("L")) for file in files], leases)
    meter.each("tower_limit", partial(multiply, matrices), [scaled(images) for images in pictures])
    return int(np.mean([len(frame) for frame in frames]))


def cut(images: np.ndarray) -> Intake:
    """A job of one chunk."""
    job = str(uuid.uuid4())
    stream = ((f"{job[:8]}/{index:07}", image) for index, image in enumerate(images))
    (chunk,) = cutting.chunks(stream, cutting.JobOptions(job=job, collection="bench"))
    return chunk


def through_broker(name: str, messages: list[Any]) -> list[dict[str, Any]]:
    """Send and receive messages; then as many bytes, of which the broker and we know nothing."""
    lane = messages[0].lane
    meter.each(f"{name}_send", Connection(place.broker_url).send, messages)
    wires = broker.lrange(KEY_PREFIX + lane, 0, -1)
    fields = meter.each(f"{name}_receive", Receiver(lane), messages)
    meter.each(f"{name}_send_limit", lambda wire: broker.lpush("raw", wire), wires)
    meter.each(f"{name}_receive_limit", lambda _: broker.brpop("raw"), wires)
    return fields


class Receiver:
    """Celery's consumer without Celery: kombu, set as the worker sets it."""

    def __init__(self, lane: str) -> None:
        app = Celery(set_as_current=False)
        app.conf.update(celery_config(settings))
        self._arrived: list[Message] = []
        self._connection = app.connection_for_read()
        consumer = self._connection.Consumer(
            [Queue(lane)], accept=[SERIALIZER], on_message=self._arrived.append, prefetch_count=1
        )
        consumer.consume()

    def __call__(self, _: object) -> dict[str, Any]:
        """The fields of the next message, acknowledged."""
        self._connection.drain_events(timeout=10)
        message = self._arrived.pop()
        fields: dict[str, Any]
        _, fields, _ = message.decode()
        message.ack()
        return fields


def read(fields: dict[str, Any]) -> Submission:
    chunk = Intake.read(fields)
    job = tasks.intake.check(chunk, settings.job_pictures)
    items, _ = tasks.intake.read(chunk)
    return Submission(
        job=job, seq=chunk.seq, collection=chunk.collection, items=items, digest=chunk.digest, total=chunk.total
    )


def submit(submission: Submission) -> int | None:
    return runtime.transact(db.queue.intake.accept, submission).batch


def pixels(lease: Lease) -> Glyphs:
    return runtime.transact(pixels_of, lease.digits)


def finish(done: tuple[Any, Any, Any]) -> int:
    lease, digits, vectors = done
    return runtime.transact(
        db.queue.finish.finish, [lease], digits.ids, {place.tower: vectors}, {"read": 0.1, "tower": 0.1}
    )


for _ in range(2):
    meter.clear()
    packed = walk()
tell(figures=meter.medians(count), packed=packed)
