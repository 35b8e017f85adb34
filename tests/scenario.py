"""What an application does with a client, from the first picture to the last: told of the real one and of the fake."""

from dataclasses import fields
from typing import Any

from cli.demo import strokes
from twinvec_client import Callback, Digit, Twinvec, TwinvecError


def scenario(tv: Twinvec, name: str) -> list[Any]:
    """What was answered, but for what two installations need not have in common. name: of two new collections."""
    told: list[Any] = []

    def refused(call: Any) -> None:
        try:
            call()
        except TwinvecError as error:
            told.append(type(error).__name__)

    pictures = {"three": Digit(strokes.png(3), 3, {"page": 1}), "seven": strokes.png(7), "bad": b"not a picture"}
    job = tv.embed(pictures, collection=name, labels={"seven": 7}, idempotency_key=name, on_finish=Callback("x.y", "x"))
    outcome = job.wait(timeout=60)
    told += [outcome.state, outcome.succeeded, outcome.unchanged, outcome.failed]
    told += [(each.key, each.reason, each.picture) for each in job.failures(pictures=True)]
    told += [[(each.key, each.picture) for each in job.failures_of("bad")], list(job.failures(after="bad"))]
    refused(lambda: job.failures_of("seven"))
    again = tv.embed(pictures, collection=name, labels={"seven": 7}, idempotency_key=name)
    told += [again.id == job.id, tv.job(job.id).status().state]
    refused(lambda: tv.embed({"other": strokes.png(3)}, collection=name, idempotency_key=name))
    told.append(tv.embed({"seven": strokes.png(7)}, collection=name).wait(timeout=60).unchanged)
    told.append(tv.embed({"seven": strokes.png(7)}, collection=f"{name}-2").wait(timeout=60).succeeded)

    found = tv.nearest(strokes.png(3), k=2, collection=name)
    told += [[(each.key, each.label, each.attributes) for each in found], found[0].key, found.exact, found.next is None]
    told += [each.key for each in tv.nearest(key="three", k=5, collection=name)]
    told += [answer.neighbours[0].key for answer in tv.nearest_many([strokes.png(7), strokes.png(3)], collection=name)]
    told += [each.key for each in tv.nearest(strokes.png(7), collection=name, label=3)]
    told += [each.key for each in tv.nearest(strokes.png(7), collection=name, attributes={"page": 1})]
    told += [len(tv.nearest(strokes.png(7), collection="none such"))]
    first = tv.nearest(strokes.png(7), k=1, collection=name)
    told += [each.key for each in tv.nearest(strokes.png(7), k=1, collection=name, after=first.next)]
    told.append(tv.nearest(strokes.png(7), collection=name, match=True).match is not None)
    refused(lambda: tv.nearest(key="never sent"))
    refused(lambda: tv.nearest(key="seven", collection=[name, f"{name}-2"]))
    refused(lambda: tv.nearest(b"not a picture"))
    refused(lambda: tv.nearest(vector=[0.0] * 128, tower="0" * 64))
    refused(lambda: tv.nearest(strokes.png(7), k=0))
    refused(lambda: tv.job("00000000-0000-0000-0000-000000000000"))

    for vectors in (tv.vectors(["seven", "gone", "three"], collection=name), job.vectors()):
        told += [(vectors.keys, vectors.vectors.shape, str(vectors.vectors.dtype))]
    told += [(each.key, each.label) for each in tv.digits(collection=name)]
    page = tv.digits_page(collection=name, limit=1, pictures=True)
    rest = tv.digits_page(collection=name, after=page.after or 0)
    told += [[each.key for each in (*page, *rest)], len(page.digits[0].picture or b"")]
    told += [len(tv.nearest(strokes.png(7), pictures=True, collection=name).glyph or b"")]
    told += [each.key for each in tv.get_many(["seven", "gone", "three"], collection=name)]
    told += [len(tv.get("seven", collection=name).picture or b"")]
    told += [(each.digits, each.labelled) for each in tv.collections() if each.name.startswith(name)]
    told += [tv.label({"seven": 1, "gone": 2}, collection=name), tv.set_attributes({"three": None}, collection=name)]
    told += [(each.key, each.label, each.attributes) for each in tv.digits(collection=name)]
    told += [each.status for each in tv.towers() if each.status == "live"]
    told += [sorted(point.key for point in tv.map(collection=name).points)]
    by_key = tv.vectors(["seven", "gone", "three"], collection=name)
    told += [by_key.keys, by_key.labels, by_key.vectors.shape, str(by_key.vectors.dtype)]
    of_job = job.vectors()
    told += [sorted(of_job.keys), sorted(key for page in tv.vector_pages(collection=name) for key in page.keys)]

    gone = tv.delete(["seven", "gone"], collection=name)
    told += [(gone.digits, gone.vectors, gone.left)]
    refused(lambda: tv.get("seven", collection=name))
    whole = [tv.delete_collection(each) for each in (name, f"{name}-2")]
    told += [(each.digits, each.left, [field.name for field in fields(each)]) for each in whole]
    told += [[each.key for each in tv.digits(collection=name)]]
    return told
