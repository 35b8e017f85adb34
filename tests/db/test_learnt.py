"""What has learnt from a digit is named when the digit is deleted: the training while it runs, then its tower."""

import uuid

from db.queue import trainings
from db.queue.delete import delete
from db.states import JobKind
from db.vectors.lifecycle import reject
from db.vectors.retention import prune_files
from tests import makers
from tests.makers import Ledger, digit_of, item, send


def train(ledger: Ledger, *, digits: list[int], pairs: list[int]) -> uuid.UUID:
    """A training that has chosen what it learns from."""
    job = uuid.uuid4()
    _, batch = ledger(trainings.start, job, recipe="quick", seed=0, data="both")
    lease = makers.claim(ledger, batch)
    assert lease is not None and lease.kind == JobKind.TRAIN
    same = [True] * (len(pairs) // 2)
    labels = [0] * len(digits)
    ledger(trainings.keep_material, lease, digits=digits, labels=labels, left_out=[], pairs=pairs, same=same)
    return job


def test_a_deletion_names_what_has_learnt_from_the_digit(ledger: Ledger) -> None:
    send(ledger, *(item(key, seed) for seed, key in enumerate("abcde")))
    a, b, c, d, _ = (digit_of(ledger, key) for key in "abcde")
    job = train(ledger, digits=[a, c], pairs=[b, d])
    assert ledger(delete, "default", ["a"]).learners == ([], [job])
    makers.register(ledger, "live")
    tower = makers.register(ledger, "trained on them")
    ledger(trainings.made, job, {"tower": tower, "status": "candidate"})
    assert ledger(delete, "default", ["e"]).learners == ([], [])
    assert ledger(delete, "default", ["b", "c"]).learners == ([tower], [])
    ledger(reject, tower, "for the test")
    assert ledger(prune_files, days=0) == [tower]
    assert ledger(delete, "default", ["d"]).learners == ([], [])
