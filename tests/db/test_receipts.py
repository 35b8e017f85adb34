"""What the ledger knows of the chunks it has taken in: receipts, and how much waits."""

import uuid

from sqlalchemy import select

from db.queue import intake
from db.tables import Batch
from tests.makers import MAX_ATTEMPTS, Ledger, claim, die_on, embed, item, rescue, send, states


def test_the_backlog_counts_what_callers_wait_for(ledger: Ledger, tower: int) -> None:
    sent = send(ledger, item("a", 1), item("b", 2))
    claim(ledger, send(ledger, item("c", 3)))
    assert ledger(intake.backlog) == 3
    embed(ledger, sent)
    assert ledger(intake.backlog) == 1


def test_receipts_name_each_accepted_chunk_once(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    for seq in range(4):
        send(ledger, item(f"a{seq}", seq), item(f"b{seq}", seq), job=job, seq=seq, open=True)
    first = ledger(lambda session: session.execute(select(Batch.id).where(Batch.seq == 0)).scalar_one())
    for _ in range(MAX_ATTEMPTS):
        die_on(ledger, first)
        rescue(ledger)
    assert states(ledger, job)[0] == "split"
    assert [seq for seq, _ in ledger(intake.received, job, after=-1).chunks] == [0, 1, 2, 3]
    assert [seq for seq, _ in ledger(intake.received, job, after=1).chunks] == [2, 3]
